//! What a host says before the program on it takes over: answers of the script, among whatever a login shell prints.

use bytes::{Buf, BytesMut};

use crate::token::Token;

/// Hears answers, and the start of the program.
pub(super) struct Answers {
    /// `LF token`; behind it comes a blank and an answer, or a line feed and the program.
    mark: Vec<u8>,
    /// Not looked at yet, or the beginning of something.
    heard: BytesMut,
    /// What came that was neither, at most [`MOST_NOISE`] and a little.
    noise: BytesMut,
}

/// One thing that was heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A line of the script, without the token.
    Answer(String),
    /// The program has started; the first of what it says.
    Started(BytesMut),
}

impl Answers {
    pub(super) fn of(token: &Token) -> Self {
        Self {
            mark: format!("\n{}", token.text()).into_bytes(),
            heard: BytesMut::new(),
            noise: BytesMut::new(),
        }
    }

    /// Takes in what came.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
    }

    /// The next thing, if all of it is there.
    pub(super) fn next(&mut self) -> Option<Heard> {
        loop {
            let length = self.mark.len();
            let Some(at) = self.heard.windows(length).position(|window| window == self.mark) else {
                // All but what may be the beginning of a mark.
                let dull = self.heard.len().saturating_sub(length - 1);
                self.pass_over(dull);
                return None;
            };
            self.pass_over(at);
            match self.heard.get(length) {
                None => return None,
                Some(b'\n') => {
                    self.heard.advance(length + 1);
                    return Some(Heard::Started(std::mem::take(&mut self.heard)));
                }
                Some(b' ') => {
                    let rest = self.heard.get(length + 1..).unwrap_or_default();
                    let end = rest.iter().position(|&byte| byte == b'\n');
                    if end.is_none() && rest.len() <= LONGEST {
                        return None;
                    }
                    let end = end.unwrap_or(LONGEST).min(LONGEST);
                    let answer = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
                    // The line feed stays: it may begin the next mark.
                    self.heard.advance(length + 1 + end);
                    return Some(Heard::Answer(answer));
                }
                Some(_) => self.pass_over(1),
            }
        }
    }

    /// Whether there was more noise than any login shell has a right to.
    pub(super) fn is_full(&self) -> bool {
        self.noise.len() > MOST_NOISE
    }

    /// What came beside answers, without the empty lines around it.
    pub(super) fn noise(&self) -> Vec<u8> {
        [&*self.noise, &*self.heard].concat().trim_ascii().to_owned()
    }

    fn pass_over(&mut self, count: usize) {
        let dull = self.heard.split_to(count);
        self.noise.extend_from_slice(&dull);
    }
}

/// The most that may come beside answers, in bytes.
const MOST_NOISE: usize = 64 * 1024;

/// The longest answer, in bytes; what is behind that is noise.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token::random().unwrap()
    }

    fn all(answers: &mut Answers) -> Vec<Heard> {
        std::iter::from_fn(|| answers.next()).collect()
    }

    #[test]
    fn answers_are_heard_among_noise() {
        let token = token();
        let mut answers = Answers::of(&token);
        let said = format!(
            "Welcome!\n\n{0} system Linux\nYou have mail\n\n{0} ready /x y\n\n{0}x\n",
            token.text()
        );
        answers.take(said.as_bytes());
        let told = ["system Linux", "ready /x y"].map(|text| Heard::Answer(text.to_owned()));
        assert_eq!(all(&mut answers), told);
        let behind = format!("behind\n{} x\n", token.text());
        answers.take(format!("{}{behind}", token.line()).as_bytes());
        assert_eq!(all(&mut answers), [Heard::Started(behind.as_bytes().into())]);
        let noise = String::from_utf8(answers.noise()).unwrap();
        assert!(
            noise.starts_with("Welcome!") && noise.contains("You have mail"),
            "{noise}"
        );
    }

    #[test]
    fn neither_noise_nor_an_answer_goes_on_for_ever() {
        let token = token();
        let mut answers = Answers::of(&token);
        answers.take(format!("\n{} ", token.text()).as_bytes());
        let mut heard = 0;
        while !answers.is_full() {
            answers.take(&[b'x'; 1000]);
            heard += all(&mut answers).len();
        }
        assert_eq!(heard, 1);
        assert!(answers.noise().len() + answers.heard.len() < MOST_NOISE + 2 * LONGEST);
    }

    proptest! {
        #[test]
        fn an_answer_is_heard_however_it_comes(
            noise in "[a-f0-9 \n]{0,80}", answer in "[a-z/ ]{0,40}", step in 1_usize..60,
        ) {
            let token = token();
            let mut answers = Answers::of(&token);
            let said = format!("{noise}\n{} {answer}\n{}behind", token.text(), token.line());
            let mut heard = Vec::new();
            for part in said.as_bytes().chunks(step) {
                match heard.last_mut() {
                    Some(Heard::Started(behind)) => behind.extend_from_slice(part),
                    _ => {
                        answers.take(part);
                        heard.extend(all(&mut answers));
                    }
                }
            }
            prop_assert_eq!(heard, [Heard::Answer(answer), Heard::Started(b"behind"[..].into())]);
            prop_assert_eq!(answers.noise(), noise.as_bytes().trim_ascii());
        }
    }
}
