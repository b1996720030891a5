//! The chapters about objects over there: what can be done with them, who they are, and when they end.

use std::time::Duration;

use farref::{Netref, Result};

use crate::directory::{Directory, Disk, What, size, survey, walk};
use crate::stage::{Stage, check, within};

pub(crate) async fn chapters(stage: &Stage) -> Result<()> {
    walked(stage)?;
    existing_code(stage)?;
    identity(stage)?;
    last_drop(stage).await
}

/// A directory over there is walked as one here would be.
fn walked(stage: &Stage) -> Result<()> {
    let Stage { screen, workshop, .. } = stage;
    screen.chapter("A directory over there, walked through a trait")?;
    screen.code("let library: Netref<dyn Directory> = workshop.library()?;")?;
    screen.code("for entry in library.entries()? { .. }")?;
    let library = workshop.library()?;
    check(!library.is_local(), "the library is over there")?;
    let mut lines = format!("{}/", library.name()?);
    walk(&*library, 1, &mut |depth, entry| {
        let indent = "  ".repeat(depth);
        match &entry.what {
            What::Directory(_) => lines.push_str(&format!("\n{indent}{}/", entry.name)),
            What::File(len) => lines.push_str(&format!(
                "\n{:<28}{:>10}",
                format!("{indent}{}", entry.name),
                size(*len)
            )),
        }
        Ok(())
    })?;
    screen.block(lines)?;
    screen.say("Each directory in this listing came as a reference inside an ordinary value.")?;
    Ok(())
}

/// What was written for the trait works on both sides of a connection.
fn existing_code(stage: &Stage) -> Result<()> {
    let Stage {
        screen,
        workshop,
        library,
        ..
    } = stage;
    screen.chapter("Code written for the trait, on an object here and on one over there")?;
    screen.code("fn survey(directory: &dyn Directory) -> Result<Survey>")?;
    let here = survey(&Disk::at(library))?;
    let there = survey(&*workshop.library()?)?;
    screen.fact("survey(&disk)?", &here)?;
    screen.fact("survey(&*netref)?", &there)?;
    check(here == there, "the two surveys are equal")?;
    screen.fact("equal", "yes")?;
    Ok(())
}

/// A reference that comes home is the object that left.
fn identity(stage: &Stage) -> Result<()> {
    let Stage {
        screen,
        workshop,
        library,
        ..
    } = stage;
    screen.chapter("An object that comes home is the object that left")?;
    screen.code("workshop.keep(ours.clone())?;")?;
    screen.code("let back = workshop.give_back()?;")?;
    let ours: Netref<dyn Directory> = Netref::of(Disk::at(library));
    workshop.keep(ours.clone())?;
    let back = workshop.give_back()?;
    check(
        back.is_local() && back.same_object(&ours),
        "the object that came home is the one that left",
    )?;
    screen.fact("back.is_local()", back.is_local())?;
    screen.fact(
        "back.same_object()",
        format!("{}: no proxy is in between", back.same_object(&ours)),
    )?;
    let (theirs, not_theirs) = (workshop.owns(workshop.library()?)?, workshop.owns(ours)?);
    check(theirs && !not_theirs, "the far side knows its own objects")?;
    screen.say("The same holds over there: the far side knows its own library when we pass it back.")?;
    Ok(())
}

/// An object lives as long as anybody holds it.
async fn last_drop(stage: &Stage) -> Result<()> {
    let Stage {
        screen,
        workshop,
        connection,
        journal,
        ..
    } = stage;
    screen.chapter("The last drop frees the object over there")?;
    let held = || connection.stats().imports;
    // What earlier chapters dropped is given back in passing: the workshop alone is left.
    within("the release of earlier objects", until(|| held() == 1)).await?;

    let sheet = workshop.call().sheet("to be torn up", journal.clone()).await?;
    let copy = sheet.clone();
    screen.fact(
        "two handles",
        format!("we hold {} objects of the far side's", held()),
    )?;
    drop(sheet);
    check(
        copy.call().text().await? == "to be torn up",
        "the sheet is still there",
    )?;
    screen.fact(
        "one dropped",
        format!("the sheet still says \"{}\"", copy.call().text().await?),
    )?;
    drop(copy);
    screen.fact("both dropped", format!("the far side: {}", stage.note().await?))?;
    within("the release of the sheet", until(|| held() == 1)).await?;
    screen.fact("", "we hold 1 object: the workshop")?;
    Ok(())
}

/// Looks again and again until `met`.
async fn until(met: impl Fn() -> bool) {
    while !met() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
