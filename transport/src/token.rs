//! How a launcher finds the start of what a program says behind what a login shell says first.
//!
//! Knows the token: made by the launcher for one start, passed in a variable, and written by the program
//! as `LF token LF` before anything else. Start-up files of a shell may print whatever they like, but not
//! that.

/// The variable by which a launcher passes the token.
pub(crate) const VARIABLE: &str = "FARREF_TOKEN";

/// 128 random bits, in 32 hexadecimal digits.
#[cfg(any(feature = "ssh", feature = "stdio", test))]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

#[cfg(any(feature = "ssh", feature = "stdio", test))]
impl Token {
    /// A token that nobody can guess.
    #[cfg(feature = "ssh")]
    pub(crate) fn random() -> std::io::Result<Self> {
        use std::fmt::Write;

        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(std::io::Error::other)?;
        let mut text = String::with_capacity(DIGITS);
        for byte in bits {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(Self(text))
    }

    /// The token that this process was started with. Anything else under that name is not ours to print.
    #[cfg(feature = "stdio")]
    pub(crate) fn of_environment() -> Option<Self> {
        Self::parse(std::env::var(VARIABLE).ok()?)
    }

    #[cfg(any(feature = "stdio", test))]
    fn parse(text: String) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == DIGITS && text.bytes().all(is_digit)).then_some(Self(text))
    }

    #[cfg(feature = "ssh")]
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// What the program writes first.
    pub(crate) fn line(&self) -> String {
        format!("\n{}\n", self.0)
    }
}

/// Looks for a token in what comes.
#[cfg(any(feature = "ssh", test))]
pub(crate) struct Search {
    line: Vec<u8>,
    /// What came before the token, at most [`MOST_NOISE`] and a little.
    noise: bytes::BytesMut,
}

#[cfg(any(feature = "ssh", test))]
impl Search {
    pub(crate) fn new(token: &Token) -> Self {
        Self {
            line: token.line().into_bytes(),
            noise: bytes::BytesMut::new(),
        }
    }

    /// Takes what came; hands out what is behind the token once that was found.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Option<bytes::BytesMut> {
        let from = self.noise.len().saturating_sub(self.line.len());
        self.noise.extend_from_slice(bytes);
        let fresh = self.noise.get(from..).unwrap_or_default();
        let at = fresh
            .windows(self.line.len())
            .position(|window| window == self.line)?;
        let mut found = self.noise.split_off(from + at);
        let _ = found.split_to(self.line.len());
        Some(found)
    }

    /// Whether there was more noise than any login shell has a right to.
    pub(crate) fn is_full(&self) -> bool {
        self.noise.len() > MOST_NOISE
    }

    /// What came before the token, or instead of it.
    pub(crate) fn noise(&self) -> &[u8] {
        &self.noise
    }
}

#[cfg(any(feature = "ssh", feature = "stdio", test))]
const DIGITS: usize = 32;

/// The most that may come before the token, in bytes.
#[cfg(any(feature = "ssh", test))]
const MOST_NOISE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token::parse("0123456789abcdef0123456789abcdef".to_owned()).unwrap()
    }

    #[test]
    fn only_a_token_is_a_token() {
        assert_eq!(token().line(), "\n0123456789abcdef0123456789abcdef\n");
        for wrong in [
            "",
            "0123",
            "0123456789ABCDEF0123456789abcdef",
            "0123456789abcdef0123456789abcde\n",
        ] {
            assert!(Token::parse(wrong.to_owned()).is_none(), "{wrong}");
        }
    }

    #[cfg(feature = "ssh")]
    #[test]
    fn no_two_tokens_are_the_same() {
        let (one, two) = (Token::random().unwrap(), Token::random().unwrap());
        assert!(one != two && Token::parse(one.text().to_owned()).is_some());
    }

    #[test]
    fn noise_without_end_is_given_up() {
        let mut search = Search::new(&token());
        while !search.is_full() {
            assert!(search.take(&[b'x'; 1000]).is_none());
        }
        assert!(search.noise().len() < MOST_NOISE + 1001);
    }

    proptest! {
        #[test]
        fn a_token_is_found_however_it_comes(
            noise in "[a-f0-9\n]{0,80}", behind in prop::collection::vec(any::<u8>(), 0..50), step in 1_usize..60,
        ) {
            let all = [noise.as_bytes(), token().line().as_bytes(), &behind].concat();
            let mut search = Search::new(&token());
            let mut parts = all.chunks(step);
            let mut heard = parts.find_map(|part| search.take(part)).unwrap().to_vec();
            heard.extend(parts.flatten());
            prop_assert_eq!(heard, behind);
            prop_assert_eq!(search.noise(), noise.as_bytes());
        }
    }
}
