//! Which operations lose an answer, and how.

/// How an answer goes missing. Both end the agent's connection, and the agent sends the same request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The answer is lost on its last hop: the write is over, only the agent does not know.
    Lost,
    /// The agent gives up waiting: the write may still run when it comes again.
    Left,
}

/// One in so many operations is cut.
const ONE_IN: usize = 10;

/// For each agent, what happens to each of its operations: a tenth of them all, but at least one, drawn by the
/// seed, so that two runs with one seed cut the same ones.
pub(crate) fn plan(agents: usize, operations: usize, seed: u64) -> Vec<Vec<Option<Cut>>> {
    let total = agents * operations;
    let mut cuts: Vec<_> = (0..total)
        .map(|nth| match nth {
            nth if nth >= total.div_ceil(ONE_IN) => None,
            nth if nth % 2 == 0 => Some(Cut::Lost),
            _ => Some(Cut::Left),
        })
        .collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut cuts);
    cuts.chunks(operations.max(1)).map(<[_]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(plan: &[Vec<Option<Cut>>], cut: Cut) -> usize {
        plan.iter().flatten().filter(|planned| **planned == Some(cut)).count()
    }

    #[test]
    fn a_tenth_is_cut_by_halves() {
        let plan = plan(8, 20, 1);
        assert_eq!((plan.len(), plan[7].len()), (8, 20));
        assert_eq!((count(&plan, Cut::Lost), count(&plan, Cut::Left)), (8, 8));
    }

    #[test]
    fn the_smallest_race_loses_an_answer_too() {
        assert_eq!(count(&plan(2, 1, 1), Cut::Lost), 1);
    }

    #[test]
    fn one_seed_is_one_plan() {
        assert_eq!(plan(4, 50, 7), plan(4, 50, 7));
        assert_ne!(plan(4, 50, 7), plan(4, 50, 8));
    }
}
