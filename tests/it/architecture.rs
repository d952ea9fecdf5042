//! The rules of the house that can be read off the sources: who imports whom (the table in `lib.rs`
//! is the list that this test enforces), how long a file may be, what never stands in one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Longest file, in lines.
const LINES_MAX: usize = 450;

/// Longest file of nothing but tests: a table of cases reads row by row.
const TEST_LINES_MAX: usize = 650;

/// Everything that may stand for the rule of a whole room.
const EVERYTHING: &str = "everything";
const NOTHING: &str = "nothing of ours";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder: its path from the root, and its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// The table of rooms in `lib.rs`: room, and the rooms that it may import.
fn rules() -> BTreeMap<String, BTreeSet<String>> {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    rows.map(|row| {
        let room = row.split('`').next().unwrap().to_owned();
        let may = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let words = may
            .split(", ")
            .map(|word| word.trim_matches('`').to_owned());
        (room, words.collect())
    })
    .collect()
}

/// Whether a file holds nothing that ships; tests may draw on other rooms.
fn is_test(path: &str) -> bool {
    let parts = ["/tests.rs", "/tests/", "/testing.rs"];
    path.starts_with("tests/") || parts.iter().any(|part| path.contains(part))
}

/// The text without comments, so that a link in one is no import, and without its tests.
fn code(text: &str) -> String {
    let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = shipped.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The rooms that a file names: `crate::ROOM`, also inside `use crate::{…}`, and a way up to the top
/// by `super`.
fn rooms_named(path: &str, text: &str, rooms: &BTreeSet<String>) -> BTreeSet<String> {
    let text = code(text);
    let mut named = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => named.extend(heads(list)),
            None => named.extend(heads(rest).into_iter().take(1)),
        }
    }
    // `src/room/a/b.rs` is three levels down: three times `super` is the crate itself.
    let levels = path.matches('/').count() - usize::from(path.ends_with("/mod.rs"));
    let up = "super::".repeat(levels);
    for (at, _) in text.match_indices(&up) {
        let before = text[..at].chars().next_back();
        if before != Some(':') && !text[at + up.len()..].starts_with("super::") {
            named.extend(heads(&text[at + up.len()..]).into_iter().take(1));
        }
    }
    named.retain(|name| rooms.contains(name));
    named
}

/// The first name of each part of a list in braces: of `a::{b, c}, d` the names `a` and `d`.
fn heads(list: &str) -> Vec<String> {
    let (mut depth, mut heads, mut current, mut fresh) = (0, Vec::new(), String::new(), true);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ';' => break,
            ',' if depth == 0 => fresh = true,
            c if depth == 0 && fresh && (c.is_alphanumeric() || c == '_') => current.push(c),
            c if depth == 0 && fresh && !current.is_empty() && !c.is_whitespace() => {
                heads.push(std::mem::take(&mut current));
                fresh = false;
            }
            _ => {}
        }
        if fresh && c == ',' && !current.is_empty() {
            heads.push(std::mem::take(&mut current));
        }
    }
    heads.extend(Some(current).filter(|last| !last.is_empty()));
    heads
}

#[test]
fn nobody_imports_what_the_map_does_not_allow() {
    let rules = rules();
    let rooms: BTreeSet<String> = rules.keys().cloned().collect();
    assert!(
        rooms.len() >= 12,
        "the map in lib.rs was not understood: {rooms:?}"
    );
    for words in rules.values() {
        let known =
            |word: &String| rooms.contains(word) || [EVERYTHING, NOTHING].contains(&word.as_str());
        assert!(words.iter().all(known), "lib.rs says {words:?}");
    }
    let mut edges = BTreeSet::new();
    let shipped = sources("src")
        .into_iter()
        .filter(|(path, _)| !is_test(path));
    for (path, text) in shipped {
        let room = path["src/".len()..]
            .split(['/', '.'])
            .next()
            .unwrap()
            .to_owned();
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let may = rules
            .get(&room)
            .unwrap_or_else(|| panic!("the map lacks the room {room}"));
        for other in rooms_named(&path, &text, &rooms) {
            let allowed = other == room || may.contains(EVERYTHING) || may.contains(&other);
            assert!(
                allowed,
                "{path} imports {other}, but {room} may import {may:?}"
            );
            edges.insert((room.clone(), other));
        }
    }
    for (room, may) in &rules {
        for other in may.iter().filter(|word| rooms.contains(*word)) {
            let used = edges.contains(&(room.clone(), other.clone()));
            assert!(
                used,
                "{room} may import {other} but does not: take it out of the map"
            );
        }
    }
}

#[test]
fn the_reader_of_imports_sees_every_form_of_them() {
    let rooms: BTreeSet<String> = ["app", "domain", "ports", "journal"]
        .map(String::from)
        .into();
    let seen = |path: &str, text: &str| {
        rooms_named(path, text, &rooms)
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        seen("src/http/a.rs", "use crate::domain::ids::X;"),
        ["domain"]
    );
    let list =
        "use crate::{\n    app::{issue::A, mint},\n    domain::x,\n    ports,\n};\nfn journal() {}";
    assert_eq!(seen("src/http/a.rs", list), ["app", "domain", "ports"]);
    assert_eq!(
        seen("src/http/a.rs", "let x = crate::journal::open();"),
        ["journal"]
    );
    assert_eq!(
        seen("src/http/a.rs", "/// [`crate::app`]\n// crate::ports"),
        [""; 0]
    );
    assert_eq!(
        seen("src/http/v1/a.rs", "use super::super::super::ports::X;"),
        ["ports"]
    );
    assert_eq!(
        seen("src/http/v1/mod.rs", "use super::super::app;"),
        ["app"]
    );
    assert_eq!(
        seen("src/http/v1/a.rs", "use super::super::domain::X;"),
        [""; 0]
    );
}

#[test]
fn files_are_short_say_what_they_hold_and_hide_nothing() {
    // In two parts, so that this file does not find itself.
    let banned = [
        concat!("#[al", "low("),
        concat!("#![al", "low("),
        concat!("to", "do!("),
        concat!("un", "implemented!("),
    ];
    let files = [sources("src"), sources("tests"), sources("examples")].concat();
    for (path, text) in files {
        assert!(
            text.starts_with("//!"),
            "{path} does not begin by saying what it holds"
        );
        let longest = if is_test(&path) {
            TEST_LINES_MAX
        } else {
            LINES_MAX
        };
        let lines = text.lines().count();
        assert!(
            lines <= longest,
            "{path} has {lines} lines, {longest} at most"
        );
        for word in banned {
            assert!(!text.contains(word), "{path} holds {word}");
        }
    }
}
