//! How often things go wrong in a random life. Each fault has its weight, so that one can be switched off.

use rand::rngs::StdRng;

use crate::transition::below;

/// How often things go wrong.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Weights: user's step, cut, connect, kill, power loss, restored backup, backup, resolving or
    /// answering, wall clock, doom (an end in the middle of work), leaving the space for a while,
    /// starting over after a failed write of the database, power lost and lost again.
    pub weights: [usize; 13],
    /// Longest delay of a message, ms.
    pub message: usize,
    /// Longest delay of a content, ms.
    pub content: usize,
    /// Longest time until it is heard that steps were taken, ms.
    pub disk: usize,
    /// One fetch in so many fails; 0: none.
    pub failing: usize,
    /// A user acts between calls in one job of so many; 0: never.
    pub slips: usize,
    /// Longest pause between two steps, ms.
    pub pause: usize,
}

impl Weather {
    /// Drawn anew for each seed, so that some seeds are all power losses and some have none.
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        let mut weights = [60, 5, 8, 3, 2, 1, 2, 4, 1, 4, 2, 1, 1];
        for weight in &mut weights[1..] {
            *weight *= below(rng, 3);
        }
        Self {
            weights,
            message: [2, 30, 200][below(rng, 3)],
            content: [5, 300, 5_000][below(rng, 3)],
            disk: [20, 300, 3_000][below(rng, 3)],
            failing: [0, 10, 3][below(rng, 3)],
            slips: [0, 6, 2][below(rng, 3)],
            pause: [5, 100, 2_000, 20_000][below(rng, 4)],
        }
    }

    /// Nothing goes wrong.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            weights: [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            message: 5,
            content: 10,
            disk: 20,
            failing: 0,
            slips: 0,
            pause: 10,
        }
    }
}
