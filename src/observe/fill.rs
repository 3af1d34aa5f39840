//! The warning that a store fills (S2).

/// From here on it is warned.
const HIGH: f64 = 0.8;
/// Below this the next time is another time.
const LOW: f64 = 0.7;

/// Whether it was warned of already.
#[derive(Debug, Default)]
pub struct Fill {
    is_high: bool,
}

impl Fill {
    /// Looks at how full the store is, 0 to 1; warns once each time it becomes so.
    pub fn look(&mut self, ratio: f64) {
        if self.rises(ratio) {
            tracing::warn!(
                ratio,
                "the store is more than 80 % full: answers are let go first, then new keys are refused"
            );
        }
    }

    fn rises(&mut self, ratio: f64) -> bool {
        let was_high = self.is_high;
        self.is_high = ratio >= if was_high { LOW } else { HIGH };
        self.is_high && !was_high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S2
    #[test]
    fn it_warns_once_each_time_it_fills() {
        let mut fill = Fill::default();
        let warned = [0.1, 0.79, 0.8, 0.99, 0.75, 0.85, 0.69, 0.79, 0.81].map(|ratio| fill.rises(ratio));
        assert_eq!(warned, [false, false, true, false, false, false, false, false, true]);
    }
}
