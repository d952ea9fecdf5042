//! `cargo run --example sas_vectors -- FILE` signs every `input` of a file of vectors, one JSON
//! object a line, and compares the token with `expected_params`. It prints what differs, then
//! `N passed, N failed` on the last line. Exit code 1 if anything differs, a line cannot be read,
//! or there is no vector at all.

mod vector;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use vector::Vector;

/// Failing vectors that are shown in full; of the others only the count matters.
const SHOWN_MAX: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // If even that cannot be said, the exit code still says it.
            drop(writeln!(io::stderr(), "sas_vectors: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, String> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(file), None) = (arguments.next(), arguments.next()) else {
        return Err("give the path of one file of vectors".into());
    };
    let vectors =
        std::fs::read(&file).map_err(|error| format!("{}: {error}", file.to_string_lossy()))?;
    check(&vectors, &mut io::stdout().lock()).map_err(|error| error.to_string())
}

/// Whether there are vectors and all of them pass.
fn check(vectors: &[u8], out: &mut impl Write) -> io::Result<bool> {
    let (mut passed, mut failed) = (0_u64, 0_u64);
    let lines = vectors.split(|&byte| byte == b'\n').enumerate();
    for (place, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
        let differences = match Vector::read(line) {
            Ok(vector) => vector.differences(),
            Err(error) => vec![format!("cannot be read: {error}")],
        };
        if differences.is_empty() {
            passed += 1;
            continue;
        }
        failed += 1;
        if failed <= SHOWN_MAX as u64 {
            for difference in differences {
                writeln!(out, "line {}: {difference}", place + 1)?;
            }
        } else {
            writeln!(
                out,
                "line {}: {} difference(s)",
                place + 1,
                differences.len()
            )?;
        }
    }
    if passed + failed == 0 {
        writeln!(out, "the file holds no vector")?;
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(failed == 0 && passed > 0)
}
