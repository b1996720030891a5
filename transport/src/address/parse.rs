//! The grammar of addresses.
//!
//! Knows what is right, and with each fault the replacement that would cure it, where there is one.
//! What becomes of the cures is in `mend`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::error::{AddressError, AddressProblem as Problem};
use super::key::PeerKey;
use super::mend::{EXAMPLE, mended, mended_escapes, nearest, unknown_scheme, without_scheme};
use super::option::{Rule, rules};
use super::{Address, Dialect, Escaped, Host, Security, Target, UnixName, is_unprintable, rpyc};

/// Reads an address, or says what is wrong and what would be right.
pub(super) fn parse(text: &str) -> Result<Address, AddressError> {
    address(text).map_err(|fault| AddressError {
        position: fault.at,
        problem: fault.problem,
        nearest: mended(text, fault.fix).into_boxed_str(),
    })
}

/// The same address, if its text reads back as the same.
pub(super) fn checked(wanted: Address) -> Result<Address, AddressError> {
    let text = wanted.to_string();
    let read = parse(&text)?;
    if read == wanted {
        return Ok(read);
    }
    // Only the name of an option is written as it is given.
    let position = text.find('?').unwrap_or(text.len());
    Err(AddressError {
        position,
        problem: Problem::UnknownOption,
        nearest: read.to_string().into(),
    })
}

/// One thing that is wrong.
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: Problem,
    pub(super) fix: Option<Fix>,
}

/// What to write in place of which bytes.
pub(super) type Fix = (Range<usize>, String);

/// A piece of the text, and where in it it begins.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Part<'a> {
    const fn end(self) -> usize {
        self.at + self.text.len()
    }

    const fn range(self) -> Range<usize> {
        self.at..self.end()
    }

    /// What is before and behind the first `mark`.
    pub(super) fn split(self, mark: char) -> (Self, Option<Self>) {
        self.split_at(self.text.find(mark), mark)
    }

    /// What is before and behind the last `mark`.
    pub(super) fn split_last(self, mark: char) -> (Self, Option<Self>) {
        self.split_at(self.text.rfind(mark), mark)
    }

    fn split_at(self, at: Option<usize>, mark: char) -> (Self, Option<Self>) {
        let Some((before, behind)) = at.and_then(|at| self.text.split_at_checked(at)) else {
            return (self, None);
        };
        let before = Self {
            text: before,
            at: self.at,
        };
        let behind = Self {
            text: behind,
            at: before.end(),
        }
        .skip(mark.len_utf8());
        (before, Some(behind))
    }

    /// Without its first bytes.
    fn skip(self, bytes: usize) -> Self {
        Self {
            text: self.text.get(bytes..).unwrap_or_default(),
            at: self.at + bytes,
        }
    }

    fn strip(self, prefix: &str) -> Option<Self> {
        self.text.starts_with(prefix).then(|| self.skip(prefix.len()))
    }

    /// A fault where the part begins, cured by writing `instead` for all of it.
    pub(super) fn replace(self, problem: Problem, instead: impl Into<String>) -> Fault {
        Fault {
            at: self.at,
            problem,
            fix: Some((self.range(), instead.into())),
        }
    }

    /// A fault where the part begins, cured by writing `before` in front of it.
    pub(super) fn prepend(self, problem: Problem, before: &str) -> Fault {
        Fault {
            at: self.at,
            problem,
            fix: Some((self.at..self.at, before.into())),
        }
    }

    /// A fault where the part ends, cured by writing `behind` there.
    pub(super) fn append(self, problem: Problem, behind: &str) -> Fault {
        Fault {
            at: self.end(),
            problem,
            fix: Some((self.end()..self.end(), behind.into())),
        }
    }
}

/// Reads an address, or finds the first thing that is wrong.
pub(super) fn address(text: &str) -> Result<Address, Fault> {
    let whole = Part { text, at: 0 };
    check_characters(whole)?;
    let (body, key) = whole.split('#');
    let (head, query) = body.split('?');
    let (front, rest) = head.split(':');
    let Some(rest) = rest else {
        return Err(without_scheme(head));
    };
    let (dialect, security, scheme) = prefix(front)?;
    let default_port = match dialect {
        Dialect::Native => None,
        Dialect::Rpyc => rpyc::default_port(scheme.text),
    };
    let target = target(scheme, rest, default_port)?;
    if dialect == Dialect::Rpyc && !rpyc::is_spoken_over(&target) {
        return Err(scheme.replace(Problem::UnexpectedDialect, "tcp"));
    }
    if security.is_some() && !target.takes_prefix() {
        let prefix = Part {
            text: text.get(..scheme.at).unwrap_or_default(),
            at: 0,
        };
        return Err(prefix.replace(Problem::UnexpectedSecurity, ""));
    }
    let mut options = options(dialect, &target, query)?;
    if dialect == Dialect::Rpyc {
        rpyc::complete(&target, &mut options);
        if let Some(key) = key {
            return Err(Fault {
                at: key.at - 1,
                problem: Problem::PlainKey,
                fix: Some((key.at - 1..key.end(), String::new())),
            });
        }
    }
    let peer_key = key.map(peer_key).transpose()?;
    if security == Some(Security::Plain) && peer_key.is_some() {
        let prefix = Part {
            text: Security::Plain.word(),
            at: 0,
        };
        return Err(prefix.replace(Problem::PlainKey, Security::Noise.word()));
    }
    let address = Address {
        dialect,
        security,
        target,
        options,
        peer_key,
    };
    // With its escapes it may be longer, and then nobody could read what is displayed.
    if address.to_string().len() > MAX_LEN {
        return Err(Fault {
            at: text.len(),
            problem: Problem::TooLong,
            fix: None,
        });
    }
    Ok(address)
}

/// What no address may have, wherever it is.
fn check_characters(whole: Part<'_>) -> Result<(), Fault> {
    let text = whole.text;
    if text.is_empty() {
        return Err(whole.replace(Problem::Empty, EXAMPLE));
    }
    if text.len() > MAX_LEN {
        return Err(Fault {
            at: MAX_LEN,
            problem: Problem::TooLong,
            fix: None,
        });
    }
    if let Some(at) = text.find(is_unprintable) {
        let trimmed = text.trim_matches(is_unprintable);
        let fix = Some((whole.range(), Escaped(trimmed, is_unprintable).to_string()));
        return Err(Fault {
            at,
            problem: Problem::Unprintable,
            fix,
        });
    }
    if let Some(at) = text.find('!') {
        return Err(Fault {
            at,
            problem: Problem::Reserved,
            fix: Some((whole.range(), text.replace('!', "%21"))),
        });
    }
    Ok(())
}

/// The prefix, which is of the dialect or of the security, and the scheme.
fn prefix(front: Part<'_>) -> Result<(Dialect, Option<Security>, Part<'_>), Fault> {
    let (prefix, Some(scheme)) = front.split('+') else {
        if front.text == rpyc::WORD {
            let tcp = Part {
                text: "tcp",
                at: front.at,
            };
            return Ok((Dialect::Rpyc, None, tcp));
        }
        return Ok((Dialect::Native, None, front));
    };
    let security = Security::ALL
        .into_iter()
        .find(|known| known.word() == prefix.text);
    let dialect = if prefix.text == rpyc::WORD {
        Dialect::Rpyc
    } else {
        Dialect::Native
    };
    if security.is_none() && dialect == Dialect::Native {
        let words: Vec<_> = Security::ALL
            .map(Security::word)
            .into_iter()
            .chain([rpyc::WORD])
            .collect();
        let with_plus = Part {
            text: front.text.get(..=prefix.text.len()).unwrap_or_default(),
            at: prefix.at,
        };
        return Err(match nearest(prefix.text, &words) {
            Some(word) => prefix.replace(Problem::UnknownSecurity, word),
            None => with_plus.replace(Problem::UnknownSecurity, ""),
        });
    }
    if scheme.split('+').0.text == rpyc::WORD {
        let before = Part {
            text: front.text.get(..=prefix.text.len()).unwrap_or_default(),
            at: front.at,
        };
        return Err(before.replace(Problem::UnexpectedSecurity, ""));
    }
    let (second, third) = scheme.split('+');
    if third.is_some() {
        let with_plus = Part {
            text: scheme.text.get(..=second.text.len()).unwrap_or_default(),
            at: second.at,
        };
        return Err(with_plus.replace(Problem::UnexpectedSecurity, ""));
    }
    Ok((dialect, security, scheme))
}

fn target(scheme: Part<'_>, rest: Part<'_>, default_port: Option<u16>) -> Result<Target, Fault> {
    Ok(match scheme.text {
        "tcp" => {
            let (host, port) = host_and_port(rest, default_port)?;
            Target::Tcp { host, port }
        }
        "ssl" => {
            let (host, port) = host_and_port(rest, default_port)?;
            Target::Ssl { host, port }
        }
        "quic" => {
            let (host, port) = host_and_port(rest, default_port)?;
            Target::Quic { host, port }
        }
        "unix" => Target::Unix(match rest.strip("@") {
            Some(name) => UnixName::Abstract(name_of(name, "", "name")?),
            None => UnixName::Path(name_of(rest, "/", "/tmp/name.sock")?),
        }),
        "serial" => Target::Serial {
            port: name_of(rest, "/", "/dev/ttyUSB0")?,
        },
        "stdio" if rest.text.is_empty() => Target::Stdio,
        "stdio" => return Err(rest.replace(Problem::UnexpectedText, "")),
        "exec" => Target::Exec {
            program: name_of(rest, "/", "/usr/bin/program")?,
        },
        "ssh" => {
            let (user, host, port) = authority(rest, true)?;
            Target::Ssh { user, host, port }
        }
        "mem" => Target::Memory {
            name: name_of(rest, "", "name")?,
        },
        own if is_own(own) => Target::Custom {
            scheme: own.to_owned(),
            rest: rest.text.to_owned(),
        },
        _ => return Err(unknown_scheme(scheme, rest)),
    })
}

/// `//HOST:PORT`; without a default the port is needed.
fn host_and_port(rest: Part<'_>, default_port: Option<u16>) -> Result<(Host, u16), Fault> {
    let (_, host, port) = authority(rest, false)?;
    let end = rest.text.strip_suffix('/').unwrap_or(rest.text);
    let end = Part {
        text: end,
        at: rest.at,
    };
    Ok((
        host,
        port.or(default_port)
            .ok_or_else(|| end.append(Problem::MissingPort, ":7000"))?,
    ))
}

/// `//[USER@]HOST[:PORT]`, and a `/` behind it that says nothing.
fn authority(rest: Part<'_>, takes_user: bool) -> Result<(Option<String>, Host, Option<u16>), Fault> {
    let Some(behind) = rest.strip("//") else {
        let slashes = rest.text.len() - rest.text.trim_start_matches('/').len();
        let slashes = Part {
            text: rest.text.get(..slashes).unwrap_or_default(),
            at: rest.at,
        };
        return Err(slashes.replace(Problem::MissingAuthority, "//"));
    };
    let (authority, path) = behind.split('/');
    if let Some(path) = path.filter(|path| !path.text.is_empty()) {
        return Err(path.replace(Problem::UnexpectedText, ""));
    }
    let (user, host) = match authority.split_last('@') {
        (host, None) => (None, host),
        (user, Some(host)) => (Some(user), host),
    };
    let user = user.map(|user| account(user, takes_user)).transpose()?;
    let (host, port) = split_port(host)?;
    Ok((user, self::host(host)?, port.map(self::port).transpose()?))
}

/// The account of a `USER@`. A leading `-` would be an option to a program that gets it.
fn account(user: Part<'_>, is_taken: bool) -> Result<String, Fault> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '$');
    let wrong = user
        .text
        .find(|c| !is_legal(c))
        .or(user.text.starts_with('-').then_some(0));
    match wrong {
        None if is_taken && !user.text.is_empty() => Ok(user.text.to_owned()),
        wrong => {
            let (name, password) = user.split(':');
            // Dropping what is behind the colon is the cure for a password, otherwise the whole user goes.
            let fix = match password {
                Some(_) if is_taken => (name.end()..user.end(), String::new()),
                _ => (user.at..user.end() + 1, String::new()),
            };
            Err(Fault {
                at: user.at + wrong.unwrap_or(0),
                problem: Problem::BadUser,
                fix: Some(fix),
            })
        }
    }
}

/// Host and port, with regard to the brackets of IPv6.
fn split_port(text: Part<'_>) -> Result<(Part<'_>, Option<Part<'_>>), Fault> {
    if text.text.starts_with('[') {
        let (inside, behind) = text.split_last(']');
        let Some(behind) = behind else {
            let fix = Some((text.range(), String::from("[::1]:7000")));
            return Err(Fault {
                at: text.at,
                problem: Problem::BadHost,
                fix,
            });
        };
        let host = Part {
            text: text.text.get(..=inside.text.len()).unwrap_or_default(),
            at: text.at,
        };
        return match behind.strip(":") {
            None if !behind.text.is_empty() => Err(behind.replace(Problem::UnexpectedText, "")),
            port => Ok((host, port)),
        };
    }
    let (host, port) = text.split_last(':');
    if !host.text.contains(':') {
        return Ok((host, port));
    }
    // More than one colon: IPv6 without its brackets, with the port or without.
    let without_port = text.text.parse::<Ipv6Addr>().is_ok();
    let all = if without_port { text } else { host };
    Err(all.replace(Problem::BadHost, format!("[{}]", all.text)))
}

fn host(part: Part<'_>) -> Result<Host, Fault> {
    let text = part.text;
    if text.is_empty() {
        return Err(part.prepend(Problem::MissingHost, "localhost"));
    }
    if let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return v6(Part {
            text: inside,
            at: part.at + 1,
        });
    }
    if let Ok(v4) = text.parse::<Ipv4Addr>() {
        return Ok(Host::V4(v4));
    }
    if text == "*" {
        return Err(part.replace(Problem::BadHost, "[::]"));
    }
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_v4_like = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match text.find(|c| !is_legal(c)) {
        // A leading `-` would be an option to a program that gets the host.
        None if !is_v4_like && !text.starts_with('-') && text.len() <= 253 => Ok(Host::Name(text.to_owned())),
        wrong => {
            let fix = Some((part.range(), String::from("localhost")));
            Err(Fault {
                at: part.at + wrong.unwrap_or(0),
                problem: Problem::BadHost,
                fix,
            })
        }
    }
}

/// What is inside the brackets.
fn v6(inside: Part<'_>) -> Result<Host, Fault> {
    let (address, zone) = inside.split('%');
    let Ok(ip) = address.text.parse() else {
        return Err(address.replace(Problem::BadHost, "::1"));
    };
    let Some(zone) = zone else {
        return Ok(Host::V6(ip, None));
    };
    let percent = Part {
        text: "%",
        at: address.end(),
    };
    let Some(zone) = zone.strip("25") else {
        return Err(percent.replace(Problem::BadHost, "%25"));
    };
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if zone.text.is_empty() || !zone.text.bytes().all(is_legal) {
        let fix = Some((percent.at..zone.end(), String::new()));
        return Err(Fault {
            at: zone.at,
            problem: Problem::BadHost,
            fix,
        });
    }
    Ok(Host::V6(ip, Some(zone.text.to_owned())))
}

fn port(part: Part<'_>) -> Result<u16, Fault> {
    let is_number = !part.text.is_empty() && part.text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if is_number { part.text.parse().ok() } else { None };
    port.ok_or_else(|| part.replace(Problem::BadPort, "7000"))
}

/// A path or name without an authority; `root` is what a leading `//` was meant to be.
fn name_of(rest: Part<'_>, root: &str, example: &str) -> Result<String, Fault> {
    if rest.text.starts_with("//") {
        let meant = format!("{root}{}", rest.text.trim_start_matches('/'));
        return Err(rest.replace(Problem::UnexpectedAuthority, meant));
    }
    if rest.text.is_empty() {
        return Err(rest.append(Problem::MissingName, example));
    }
    unescaped(rest)
}

/// A text with its escapes resolved.
fn unescaped(part: Part<'_>) -> Result<String, Fault> {
    let mut bytes = Vec::with_capacity(part.text.len());
    let mut rest = part;
    while let (before, Some(behind)) = rest.split('%') {
        bytes.extend_from_slice(before.text.as_bytes());
        let digits = behind
            .text
            .get(..2)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if byte != 0 => bytes.push(byte),
            _ => {
                let fix = Some((part.range(), mended_escapes(part.text)));
                return Err(Fault {
                    at: before.end(),
                    problem: Problem::BadEscape,
                    fix,
                });
            }
        }
        rest = behind.skip(2);
    }
    bytes.extend_from_slice(rest.text.as_bytes());
    String::from_utf8(bytes).map_err(|_| part.replace(Problem::NotText, part.text.replace('%', "%25")))
}

fn options(
    dialect: Dialect,
    target: &Target,
    query: Option<Part<'_>>,
) -> Result<Vec<(String, String)>, Fault> {
    let Some(query) = query else { return Ok(Vec::new()) };
    let mut options: Vec<(String, String)> = Vec::new();
    let mut left = Some(query);
    while let Some(part) = left {
        let (option, behind) = part.split('&');
        left = behind;
        // What is cured by leaving the option away takes a mark along: the one before it, if that is
        // not the mark of the whole query, still needed by the options behind.
        let gone = match left {
            Some(behind) if option.at == query.at => option.at..behind.at,
            _ => option.at - 1..option.end(),
        };
        let removed = |problem, at| Fault {
            at,
            problem,
            fix: Some((gone.clone(), String::new())),
        };
        let (name, value) = option.split('=');
        let rule = match target {
            Target::Custom { .. } if !is_word(name.text) => {
                return Err(removed(Problem::UnknownOption, option.at));
            }
            Target::Custom { .. } => of_dialect(dialect).iter().find(|rule| rule.name == name.text),
            _ => Some(rule(dialect, target.scheme(), name).map_err(|fault| {
                if fault.fix.is_some() {
                    fault
                } else {
                    removed(fault.problem, fault.at)
                }
            })?),
        };
        let may_repeat = rule.is_none_or(|rule| rule.may_repeat);
        if !may_repeat && options.iter().any(|(known, _)| known == name.text) {
            return Err(removed(Problem::RepeatedOption, option.at));
        }
        let is_switch = rule.is_none_or(Rule::is_switch);
        let value = match value {
            None if is_switch => String::from("1"),
            None => {
                let example = rule.map_or("1", |rule| rule.example);
                return Err(name.append(Problem::MissingValue, &format!("={example}")));
            }
            Some(value) => {
                let text = unescaped(value)?;
                if let Some(rule) = rule.filter(|rule| !rule.takes(&text)) {
                    return Err(value.replace(Problem::BadValue, rule.example));
                }
                text
            }
        };
        options.push((name.text.to_owned(), value));
    }
    Ok(options)
}

/// The options that every address of a dialect has.
const fn of_dialect(dialect: Dialect) -> &'static [Rule] {
    match dialect {
        Dialect::Native => &[],
        Dialect::Rpyc => rpyc::RULES,
    }
}

fn rule(dialect: Dialect, scheme: &str, name: Part<'_>) -> Result<&'static Rule, Fault> {
    let rules = rules(scheme).iter().chain(of_dialect(dialect));
    if let Some(rule) = rules.clone().find(|rule| rule.name == name.text) {
        return Ok(rule);
    }
    let names: Vec<_> = rules.map(|rule| rule.name).collect();
    let fix = nearest(name.text, &names).map(|near| (name.range(), near.to_owned()));
    Err(Fault {
        at: name.at,
        problem: Problem::UnknownOption,
        fix,
    })
}

fn peer_key(part: Part<'_>) -> Result<PeerKey, Fault> {
    PeerKey::parse(part.text).ok_or(Fault {
        at: part.at,
        problem: Problem::BadKey,
        fix: Some((part.at - 1..part.end(), String::new())),
    })
}

/// Whether a scheme is one of the user's own.
pub(super) fn is_own(scheme: &str) -> bool {
    scheme.strip_prefix("x-").is_some_and(is_word)
}

fn is_word(text: &str) -> bool {
    let is_legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.bytes().all(is_legal)
}

/// The longest address, in bytes.
const MAX_LEN: usize = 4096;
