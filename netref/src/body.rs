//! Bodies of calls that have to wait.

use bytes::Bytes;
use farref_framing::BLOCK_MOST;

/// Half of the longest block that a carrier is read into.
const HALF_A_BLOCK: usize = BLOCK_MOST / 2;

/// The body of a call that is about to wait: with no more memory than about twice its length. A short one is a part of the
/// block that it was read in, with whatever else came in that.
pub(crate) fn apart(body: Bytes) -> Bytes {
    if body.len() < HALF_A_BLOCK {
        Bytes::copy_from_slice(&body)
    } else {
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_body_keeps_nothing_of_its_block_and_a_long_one_is_not_copied() {
        let block = Bytes::from(vec![7; BLOCK_MOST]);
        for (len, is_copied) in [
            (0, true),
            (1, true),
            (HALF_A_BLOCK - 1, true),
            (HALF_A_BLOCK, false),
        ] {
            let body = block.slice(..len);
            let kept = apart(body.clone());
            assert_eq!(kept, body);
            assert_eq!(kept.as_ptr() != block.as_ptr(), is_copied, "{len} bytes");
        }
    }
}
