//! Every MUST of PROTOCOL.md, and every limit, has a test that shows it: `demands.md` says which.

use std::path::{Path, PathBuf};

const DEMANDS: &str = include_str!("../demands.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

/// A row: of what, what, and the tests.
struct Row<'a> {
    of: &'a str,
    what: &'a str,
    tests: Vec<&'a str>,
}

fn rows(chapter: &str) -> Vec<Row<'_>> {
    let table = DEMANDS
        .split_once(chapter)
        .unwrap()
        .1
        .split("\n## ")
        .next()
        .unwrap();
    let rows = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.filter(|row| !row.ends_with("shown by"))
        .map(|row| {
            let mut cells = row.split(" | ").map(|cell| cell.trim_matches('`'));
            let (of, what) = (cells.next().unwrap(), cells.next().unwrap());
            let tests = cells.next().unwrap_or_default().split(", ");
            let tests = tests
                .map(|test| test.trim_matches('`'))
                .filter(|test| !test.is_empty());
            Row {
                of,
                what: what.trim_end_matches(" |"),
                tests: tests.collect(),
            }
        })
        .collect()
}

/// The sections that demand something, by their numbers, each in one line.
fn sections(protocol: &str) -> Vec<(&str, String)> {
    let mut sections: Vec<(&str, String)> = Vec::new();
    for line in protocol.lines() {
        let title = line.strip_prefix("**").or_else(|| line.strip_prefix("### "));
        let number = title.and_then(|title| title.split(' ').next()).filter(|number| {
            number.contains('.') && number.chars().all(|digit| digit.is_ascii_digit() || digit == '.')
        });
        if let Some(number) = number {
            sections.push((number, String::new()));
        }
        if let Some((_, text)) = sections.last_mut() {
            text.push_str(line.trim());
            text.push(' ');
        }
    }
    // It says what the words mean.
    sections.retain(|(number, _)| *number != "1.1");
    sections
}

/// All sources of the workspace.
fn sources(directory: &Path, into: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, into);
        } else if name.ends_with(".rs") {
            into.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn each_demand_and_each_limit_has_a_test() {
    let mut wrong = Vec::new();
    let demands = rows("## Each MUST");
    let mut shown = vec![0; demands.len()];
    let protocol = std::fs::read_to_string(root().join("PROTOCOL.md")).unwrap();
    for (section, text) in sections(&protocol) {
        for (at, _) in text.match_indices("MUST") {
            let is_it = |row: &Row<'_>| row.of == section && text[at..].starts_with(row.what);
            match demands.iter().position(is_it) {
                Some(row) => shown[row] += 1,
                None => wrong.push(format!("§ {section} `{:.60}` has no row", &text[at..])),
            }
        }
    }
    for (row, count) in demands.iter().zip(shown) {
        if count != 1 {
            wrong.push(format!("§ {} `{}` is said {count} times", row.of, row.what));
        }
    }

    let limits = rows("## Each limit");
    let mut structs: Vec<&str> = limits.iter().map(|row| row.of).collect();
    structs.dedup();
    for of in structs {
        let (path, name) = of.split_once(' ').unwrap();
        let source = std::fs::read_to_string(root().join(path)).unwrap();
        let (_, body) = source.split_once(&format!("pub struct {name} {{")).unwrap();
        let body = body.split("\n}").next().unwrap();
        let declared = body
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
        let declared: Vec<_> = declared.collect();
        let listed: Vec<_> = limits
            .iter()
            .filter(|row| row.of == of)
            .map(|row| row.what)
            .collect();
        if declared != listed {
            wrong.push(format!("{of} has {declared:?}, and rows for {listed:?}"));
        }
    }

    let mut written = String::new();
    sources(&root(), &mut written);
    for test in demands.iter().chain(&limits).flat_map(|row| &row.tests) {
        if !written.contains(&format!("fn {test}(")) {
            wrong.push(format!("there is no test `{test}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
