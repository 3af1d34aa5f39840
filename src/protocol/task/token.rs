//! The name of a claim that its agent uses.
//!
//! It holds the name of the task's cell, so that a word on a claim is one look at one cell and nothing else is stored of
//! it; and a digest over queue, principal and all else of it. So a claim that never was, or that is another principal's,
//! is told from one that has ended for ever: nothing has to be remembered of those that ended.

use super::super::record::Principal;
use serde::{Deserialize, Serialize};

/// Names a claim within its task's cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag(pub [u8; 8]);

/// A claim, as its agent names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The name of the task's cell.
    pub task: [u8; 16],
    /// Random: nobody guesses it.
    pub nonce: [u8; 16],
}

const BYTES: usize = 48;

impl Claim {
    /// The name of a task's cell.
    pub fn cell(queue: &str, identity: &str) -> [u8; 16] {
        let mut hash = blake3::Hasher::new();
        // Its length before it: no two pairs are the same bytes.
        hash.update(b"task\0").update(&(queue.len() as u64).to_be_bytes());
        hash.update(queue.as_bytes()).update(identity.as_bytes());
        first(hash.finalize().as_bytes())
    }

    /// Names it within the cell.
    pub fn tag(&self) -> Tag {
        Tag(first(blake3::hash(&self.nonce).as_bytes()))
    }

    /// What its agent gets.
    pub fn text(&self, queue: &str, principal: &Principal) -> String {
        let seal = self.seal(queue, principal);
        let bytes = self.task.iter().chain(&self.nonce).chain(&seal);
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    /// The other way round; `None`: no claim of this principal's on this queue, ever.
    pub fn parse(text: &str, queue: &str, principal: &Principal) -> Option<Self> {
        let bytes = hex(text)?;
        let (task, rest) = bytes.split_first_chunk()?;
        let (nonce, seal) = rest.split_first_chunk()?;
        let claim = Self { task: *task, nonce: *nonce };
        (claim.seal(queue, principal).as_slice() == seal).then_some(claim)
    }

    fn seal(&self, queue: &str, principal: &Principal) -> [u8; 16] {
        let mut hash = blake3::Hasher::new();
        hash.update(b"claim\0").update(&self.task).update(&self.nonce).update(&principal.0);
        first(hash.update(queue.as_bytes()).finalize().as_bytes())
    }
}

/// Lower case only: a claim has one spelling.
fn hex(text: &str) -> Option<[u8; BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    if text.len() != 2 * BYTES {
        return None;
    }
    for (to, two) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let [high, low] = two else { return None };
        *to = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    let mut first = [0; N];
    first.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    // I2, J3: a claim is known again for ever, by its own principal on its own queue only.
    #[test]
    fn a_claim_is_its_principals_on_its_queue() {
        let (mine, other) = (Principal([1; 32]), Principal([2; 32]));
        let claim = Claim { task: Claim::cell("q", "7"), nonce: [9; 16] };
        let text = claim.text("q", &mine);
        assert_eq!(Claim::parse(&text, "q", &mine), Some(claim));
        assert_eq!(Claim::parse(&text, "q", &other), None);
        assert_eq!(Claim::parse(&text, "r", &mine), None);
        assert_eq!(Claim::parse(&text.to_uppercase(), "q", &mine), None);
        assert_eq!(Claim::parse(&text[2..], "q", &mine), None);
        assert_eq!(Claim::parse("", "q", &mine), None);
        for place in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[place] = if forged[place] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(Claim::parse(&forged, "q", &mine), None, "{place}");
        }
    }

    #[test]
    fn no_two_tasks_share_a_cell() {
        assert_ne!(Claim::cell("a", "b"), Claim::cell("ab", ""));
        assert_ne!(Claim::cell("a\0b", "c"), Claim::cell("a", "b\0c"));
    }
}
