//! The chapters about what flows: a file over there, and a stream from there.

use std::io::{BufRead, Read, Seek, SeekFrom};

use farref::Result;
use farref::file::Handle;

use crate::directory::size;
use crate::stage::{Stage, check};

pub(crate) async fn chapters(stage: &Stage) -> Result<()> {
    file(stage)?;
    stream(stage).await
}

/// Code that reads files reads far ones.
fn file(stage: &Stage) -> Result<()> {
    let Stage {
        screen,
        workshop,
        library,
        ..
    } = stage;
    screen.chapter("A file over there, read by code that knows `std::io` alone")?;
    screen.code("let mut map = Handle::new(workshop.open(\"north.map\")?).blocking();")?;
    screen.code("fn most(reader: impl Read) -> io::Result<u64>")?;
    /// How often the most frequent byte is there.
    fn most(reader: impl Read) -> std::io::Result<u64> {
        let mut counts = [0_u64; 256];
        for byte in std::io::BufReader::new(reader).bytes() {
            if let Some(count) = counts.get_mut(usize::from(byte?)) {
                *count += 1;
            }
        }
        Ok(counts.into_iter().max().unwrap_or_default())
    }
    let mut map = Handle::new(workshop.open("maps/coast/north.map")?).blocking();
    let there = most(&mut map)?;
    let here = most(std::fs::File::open(library.join("maps/coast/north.map"))?)?;
    check(here == there, "a far file reads like one here")?;
    let end = map.stream_position()?;
    let told = format!("{there} times, as in the file itself; {} came", size(end));
    screen.fact("most(&mut map)?", told)?;
    let mut poem = Handle::new(workshop.open("poems/tyger.txt")?).blocking();
    poem.seek(SeekFrom::End(-28))?;
    let mut last = String::new();
    poem.read_line(&mut last)?;
    check(
        last.trim_end() == "In the forests of the night",
        "the end of the poem is its last line",
    )?;
    screen.fact("seek, read_line", format!("{:?}", last.trim_end()))?;
    Ok(())
}

/// Items come as they are read, and no faster.
async fn stream(stage: &Stage) -> Result<()> {
    const WANTED: u64 = 100_000;
    let Stage { screen, workshop, .. } = stage;
    screen.chapter("A stream without an end, read for as long as it is of use")?;
    screen.code("let mut ticks = workshop.call().ticks(journal).await?;")?;
    screen.code("while let Some(tick) = ticks.next().await { .. }")?;
    let mut ticks = workshop.call().ticks(stage.journal.clone()).await?;
    let (mut sum, mut read) = (0, 0);
    while read < WANTED {
        let tick: u64 = ticks.next().await.transpose()?.unwrap_or_default();
        (sum, read) = (sum + tick, read + 1);
    }
    check(sum == (0..WANTED).sum(), "each item comes once, in order")?;
    screen.fact("read", format!("{read} numbers, in order"))?;
    drop(ticks);
    let note = stage.note().await?;
    let made = note
        .split_whitespace()
        .filter_map(|word| word.parse::<u64>().ok())
        .next();
    check(
        made.is_some_and(|made| (WANTED..WANTED * 100).contains(&made)),
        "the far side makes no more than there is room for",
    )?;
    screen.fact("let go", format!("the far side: {note}"))?;
    screen.say(
        "It was never further ahead than the room that this side gives: whoever reads slowly is not overrun.",
    )?;
    Ok(())
}
