//! What fuzzers have found worth keeping (`fuzz/seeds`, `tools/deep-checks.sh`), through the bodies of the fuzz targets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use farref_boxing::fuzzing as boxing;
use farref_framing::fuzzing as framing;
use farref_netref::exchange::fuzzing::exchange;
use farref_services::fuzzing as services;
use farref_transport::fuzzing::address;

type Body = fn(&[u8]);

/// All targets but `schedule`, which is for the tests of netref alone, with those of its seeds.
const TARGETS: [(&str, Body); 17] = [
    ("address", address),
    ("brine", boxing::brine),
    ("carriers", framing::carriers),
    ("error", boxing::error),
    ("exchange", exchange),
    ("frames", framing::frames),
    ("keys", services::keys),
    ("line", framing::line),
    ("link", framing::link),
    ("noise", framing::noise),
    ("payload", boxing::payload),
    ("preface", framing::preface),
    ("registry", services::registry),
    ("rpyc", framing::rpyc),
    ("session", framing::session),
    ("shape", boxing::shape),
    ("value", boxing::value),
];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// One to a line, in hexadecimal digits.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(fuzz().join(format!("seeds/{target}.hex"))).unwrap();
    let seed = |line: &str| {
        let digits = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        (0..line.len()).step_by(2).map(digits).collect()
    };
    text.lines().map(seed).collect()
}

#[test]
fn no_seed_of_a_fuzzer_harms() {
    for (target, run) in TARGETS {
        let seeds = seeds(target);
        println!("{target}: {} seeds", seeds.len());
        assert!(!seeds.is_empty());
        seeds.iter().for_each(|seed| run(seed));
    }
}

#[test]
fn every_target_has_seeds_and_a_place_here() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let targets: Vec<_> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""))
        .collect();
    let mut runs: BTreeMap<_, _> = TARGETS.into();
    for target in targets {
        assert!(target == "schedule" || runs.remove(target).is_some(), "{target}");
        assert!(!seeds(target).is_empty(), "{target}");
    }
    assert!(runs.is_empty(), "no targets: {runs:?}");
}
