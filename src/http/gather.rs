//! Small messages in one piece: the kernel takes one buffer faster than a list of them.

use std::io::IoSlice;

/// As large as a usual head with a usual body behind it.
const ROOM: usize = 1024;

/// Where pieces are joined.
pub(crate) struct Gather([u8; ROOM]);

impl Gather {
    pub(crate) fn new() -> Self {
        Self([0; ROOM])
    }

    /// All pieces as one, where they are one already or small together.
    pub(crate) fn join<'a>(&'a mut self, pieces: &'a [IoSlice<'_>]) -> Option<&'a [u8]> {
        if let [only] = pieces {
            return Some(only);
        }
        let mut length = 0;
        for piece in pieces {
            self.0.get_mut(length..length + piece.len())?.copy_from_slice(piece);
            length += piece.len();
        }
        self.0.get(..length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_one_and_all_else_stays() {
        let (head, body, large) = (IoSlice::new(b"head "), IoSlice::new(b"body"), IoSlice::new(&[7; ROOM]));
        let mut room = Gather::new();
        assert_eq!(room.join(&[head, body]), Some(&b"head body"[..]));
        assert_eq!(room.join(&[IoSlice::new(b""), large]), Some(&[7; ROOM][..]));
        assert_eq!(room.join(&[large]), Some(&[7; ROOM][..]));
        assert_eq!(room.join(&[head, large]), None);
    }
}
