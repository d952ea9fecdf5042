//! The demo's terminal: plain when piped, coloured on a terminal (anstream decides).

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();

/// Prints steps and remembers whether one differed.
#[derive(Debug, Default)]
pub(super) struct Screen {
    steps: usize,
    differing: usize,
}

impl Screen {
    /// The headline.
    pub(super) fn title(&self, text: &str) {
        anstream::println!("{BOLD}{text}{BOLD:#}\n");
    }

    /// One step: what was done, whether it came out as told, and what was seen.
    pub(super) fn step(&mut self, what: &str, as_told: bool, seen: impl Display) {
        self.steps += 1;
        let number = self.steps;
        if as_told {
            anstream::println!("{GREEN}ok{GREEN:#}  {number:2}. {what}");
        } else {
            self.differing += 1;
            anstream::println!("{RED}NO{RED:#}  {number:2}. {what}");
        }
        for line in seen.to_string().lines() {
            anstream::println!("        {DIM}{line}{DIM:#}");
        }
    }

    /// The last line; true if every step came out as told.
    pub(super) fn finish(&self) -> bool {
        let Self { steps, differing } = self;
        if *differing == 0 {
            anstream::println!("\n{GREEN}all {steps} steps came out as told{GREEN:#}");
        } else {
            anstream::println!("\n{RED}{differing} of {steps} steps differ{RED:#}");
        }
        *differing == 0
    }
}
