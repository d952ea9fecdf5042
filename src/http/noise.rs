//! A bound on log lines that strangers can cause: malformed requests and failed authentication are
//! counted and logged, but nobody may fill the disk with them.

use std::sync::{Mutex, PoisonError};

/// Most lines a second: enough to see an attack, too few to fill a disk.
pub const LINES_PER_SECOND_MAX: u32 = 10;

/// Counts lines by the second.
#[derive(Debug, Default)]
pub struct Noise(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    number: i64,
    lines: u32,
    suppressed: u64,
}

impl Noise {
    /// Asks for one line in this second (a Unix time): `Some` with the number of lines suppressed
    /// since the last one that was granted, or `None` if the second has had its share.
    pub fn line(&self, second: i64) -> Option<u64> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number != second {
            current.number = second;
            current.lines = 0;
        }
        if current.lines == LINES_PER_SECOND_MAX {
            current.suppressed += 1;
            return None;
        }
        current.lines += 1;
        Some(std::mem::take(&mut current.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_share_and_the_next_one_tells_what_was_suppressed() {
        let noise = Noise::default();
        let granted = (0..1_000).filter(|_| noise.line(7).is_some()).count();
        assert_eq!(granted, LINES_PER_SECOND_MAX as usize);
        assert_eq!(noise.line(8), Some(1_000 - u64::from(LINES_PER_SECOND_MAX)));
        assert_eq!(noise.line(8), Some(0));
    }
}
