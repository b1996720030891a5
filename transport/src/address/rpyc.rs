//! What is peculiar to addresses of peers that speak RPyC, Python's protocol of remote objects.
//!
//! Knows which media it is spoken over, the ports that its servers listen at by default
//! (`rpyc.utils.classic`, 4.1 to 6.0: `DEFAULT_SERVER_PORT` and `DEFAULT_SERVER_SSL_PORT`), and its own options. It
//! has no encryption of its own and proves no keys: that is for `ssl` and `ssh`.

use super::Target;
use super::option::{Rule, Values};

/// The word before the `+`, or in place of the scheme: then the medium is `tcp`.
pub(super) const WORD: &str = "rpyc";

/// Options of every address of a peer that speaks RPyC, in order.
pub(super) const RULES: &[Rule] = &[
    Rule::new("bind-threads", Values::Switch, "1"),
    Rule::new("generation", Values::Word(&["5", "6"]), "6"),
];

/// The port of a classic server.
const PORT: u16 = 18812;

/// The port of a classic server with TLS.
const SSL_PORT: u16 = 18821;

/// The port that is meant where an address of this scheme names none.
pub(super) fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "tcp" => Some(PORT),
        "ssl" => Some(SSL_PORT),
        _ => None,
    }
}

/// Whether RPyC is spoken over the medium. Not over QUIC, which needs streams of its own.
pub(super) const fn is_spoken_over(target: &Target) -> bool {
    !matches!(target, Target::Quic { .. })
}

/// Adds the options that are meant where the address is silent: `ssh` leads to the port of a server that runs there
/// already; a program that is started there says no token, as it is no program of ours.
pub(super) fn complete(target: &Target, options: &mut Vec<(String, String)>) {
    if !matches!(target, Target::Ssh { .. }) {
        return;
    }
    let has = |wanted: &str| options.iter().any(|(name, _)| name == wanted);
    let missing = match (has("command"), has("to"), has("token")) {
        (false, false, _) => ("to", PORT.to_string()),
        (true, _, false) => ("token", String::from("0")),
        _ => return,
    };
    options.push((missing.0.to_owned(), missing.1));
}
