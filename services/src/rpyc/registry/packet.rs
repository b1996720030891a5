//! What a packet says: requests and replies, in bytes and out of them.

use bytes::{Bytes, BytesMut};
use farref_boxing::rpyc::{Brine, BrineError, BrineLimits, decode, encode};

/// The most that a request or a reply may take, in bytes: a Python peer reads no more.
pub(super) const MOST: usize = 1500;

/// The first word of each request.
const MAGIC: &str = "RPYC";

/// A packet of 1,500 bytes can have no more values in it.
const LIMITS: BrineLimits = BrineLimits {
    depth: 8,
    items: MOST,
    digits: 20,
};

/// What is asked of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// Which servers have this name?
    Query(String),
    /// A server at this port has these names.
    Register(Vec<String>, u16),
    /// The server at this port has no name any more.
    Unregister(u16),
    /// Which names are there, at all or on this host?
    List(Option<String>),
}

impl Request {
    pub(super) fn encode(&self) -> Bytes {
        let (command, arguments) = match self {
            Self::Query(name) => ("QUERY", vec![text(name)]),
            Self::Register(names, port) => {
                let names = names.iter().map(|name| text(name)).collect();
                ("REGISTER", vec![Brine::Tuple(names), number(*port)])
            }
            Self::Unregister(port) => ("UNREGISTER", vec![number(*port)]),
            Self::List(host) => {
                let host = host.as_deref().map_or(Brine::None, text);
                ("LIST", vec![Brine::Tuple(vec![host])])
            }
        };
        to_bytes(&Brine::Tuple(vec![
            text(MAGIC),
            text(command),
            Brine::Tuple(arguments),
        ]))
    }

    /// The request in a packet; `None` if it is none that is known, or has other arguments.
    ///
    /// # Errors
    ///
    /// It is no value: [`BrineError::Truncated`] if more may come that makes it one.
    pub(super) fn decode(packet: &Bytes) -> Result<Option<Self>, BrineError> {
        Ok(Self::of(decode(packet, &LIMITS)?))
    }

    fn of(value: Brine) -> Option<Self> {
        let [magic, command, arguments] = items(value)?;
        if magic != text(MAGIC) {
            return None;
        }
        let Brine::Str(command) = command else { return None };
        match command.to_ascii_uppercase().as_str() {
            "QUERY" => {
                let [Brine::Str(name)] = items(arguments)? else {
                    return None;
                };
                Some(Self::Query(name))
            }
            "REGISTER" => {
                let [Brine::Tuple(names) | Brine::FrozenSet(names), port] = items(arguments)? else {
                    return None;
                };
                Some(Self::Register(texts(names)?, port_of(&port)?))
            }
            "UNREGISTER" => {
                let [port] = items(arguments)?;
                Some(Self::Unregister(port_of(&port)?))
            }
            "LIST" => {
                let [filter] = items(arguments)?;
                let [host] = items(filter)?;
                match host {
                    Brine::None => Some(Self::List(None)),
                    Brine::Str(host) if host.is_empty() => Some(Self::List(None)),
                    Brine::Str(host) => Some(Self::List(Some(host))),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// What a registry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// Servers, each with its host.
    Servers(Vec<(String, u16)>),
    /// It is done.
    Done,
    /// Names; `None` where that is not told.
    Names(Option<Vec<String>>),
}

impl Reply {
    /// The reply in a packet. What has no room in it is left out, beginning with the first.
    pub(super) fn encode(&self) -> Bytes {
        let items: Vec<_> = match self {
            Self::Done => return to_bytes(&text("OK")),
            Self::Names(None) => return to_bytes(&Brine::None),
            Self::Servers(servers) => servers
                .iter()
                .map(|(host, port)| Brine::Tuple(vec![text(host), number(*port)]))
                .collect(),
            Self::Names(Some(names)) => names.iter().map(|name| text(name)).collect(),
        };
        let mut room = MOST.saturating_sub(LONGEST_HEAD);
        let fitting = items.iter().rev().take_while(|item| {
            let left = room.checked_sub(to_bytes(item).len());
            room = left.unwrap_or(0);
            left.is_some()
        });
        let fitting = items.len().saturating_sub(fitting.count());
        to_bytes(&Brine::Tuple(items.into_iter().skip(fitting).collect()))
    }

    /// The servers in a reply; `None` if it is no such reply. Ports that are none are left out.
    pub(super) fn servers(reply: Brine) -> Option<Vec<(String, u16)>> {
        let Brine::Tuple(servers) = reply else { return None };
        let server = |server| match items(server)? {
            [Brine::Str(host), port] => Some((host, port)),
            _ => None,
        };
        let servers: Option<Vec<_>> = servers.into_iter().map(server).collect();
        let servers = servers?.into_iter();
        Some(
            servers
                .filter_map(|(host, port)| Some((host, port_of(&port)?)))
                .collect(),
        )
    }

    /// Whether a reply says that it is done.
    pub(super) fn is_done(reply: &Brine) -> bool {
        *reply == text("OK")
    }

    /// The names in a reply; `None` if it is no such reply.
    pub(super) fn names(reply: Brine) -> Option<Option<Vec<String>>> {
        match reply {
            Brine::None => Some(None),
            Brine::Tuple(names) => texts(names).map(Some),
            _ => None,
        }
    }

    /// The value that a registry sent.
    ///
    /// # Errors
    ///
    /// As for [`Request::decode`].
    pub(super) fn decode(packet: &Bytes) -> Result<Brine, BrineError> {
        // Those of Python may be longer than what Python reads.
        let limits = BrineLimits {
            items: packet.len(),
            ..LIMITS
        };
        decode(packet, &limits)
    }
}

/// Reads `data` as a packet of either kind. A request that is understood is written so that it reads the same.
pub(crate) fn fuzz(data: &[u8]) {
    let packet = Bytes::copy_from_slice(data);
    if let Ok(Some(request)) = Request::decode(&packet) {
        assert_eq!(Request::decode(&request.encode()), Ok(Some(request)));
    }
    let Ok(reply) = Reply::decode(&packet) else { return };
    _ = Reply::is_done(&reply);
    if let Some(servers) = Reply::servers(reply.clone()) {
        fits(&Reply::Servers(servers));
    }
    if let Some(names) = Reply::names(reply) {
        fits(&Reply::Names(names));
    }
}

/// Whatever is told, a Python peer can read it.
fn fits(reply: &Reply) {
    let packet = reply.encode();
    assert!(packet.len() <= MOST && Reply::decode(&packet).is_ok());
}

/// What stands before the items of a tuple, at most.
const LONGEST_HEAD: usize = 5;

fn text(text: &str) -> Brine {
    Brine::Str(text.to_owned())
}

fn number(port: u16) -> Brine {
    Brine::Int(port.into())
}

fn to_bytes(value: &Brine) -> Bytes {
    let mut bytes = BytesMut::new();
    encode(value, &mut bytes);
    bytes.freeze()
}

/// The items of a tuple of so many.
fn items<const N: usize>(value: Brine) -> Option<[Brine; N]> {
    match value {
        Brine::Tuple(items) => items.try_into().ok(),
        _ => None,
    }
}

fn texts(values: Vec<Brine>) -> Option<Vec<String>> {
    let text = |value| match value {
        Brine::Str(text) => Some(text),
        _ => None,
    };
    values.into_iter().map(text).collect()
}

/// A port that a server can be at.
fn port_of(value: &Brine) -> Option<u16> {
    match value {
        Brine::Int(port) => u16::try_from(*port).ok().filter(|port| *port != 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Bytes {
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    /// As RPyC 6.0.2 wrote them.
    #[test]
    fn requests_are_those_of_python_byte_for_byte() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (request, hex) in [
            (
                Request::Query("FOO".into()),
                "12080d52505943080e05515545525910080c464f4f",
            ),
            (
                Request::Register(names(&["FOO", "BAR"]), 12345),
                "12080d52505943080e0852454749535445521111080c464f4f080c42415216053132333435",
            ),
            (
                Request::Unregister(12345),
                "12080d52505943080e0a554e52454749535445521016053132333435",
            ),
            (Request::List(None), "12080d52505943080d4c495354101000"),
            (
                Request::List(Some("10.0.0.1".into())),
                "12080d52505943080d4c4953541010080e0831302e302e302e31",
            ),
        ] {
            assert_eq!(request.encode(), bytes(hex), "{request:?}");
            assert_eq!(Request::decode(&bytes(hex)), Ok(Some(request)));
        }
    }

    /// As RPyC 6.0.2 wrote them.
    #[test]
    fn replies_are_those_of_python_byte_for_byte() {
        let servers = vec![("10.0.0.1".to_owned(), 12345), ("10.0.0.2".to_owned(), 45678)];
        let names = vec!["FOO".to_owned(), "BAR".to_owned()];
        for (reply, hex) in [
            (
                Reply::Servers(servers.clone()),
                "1111080e0831302e302e302e311605313233343511080e0831302e302e302e3216053435363738",
            ),
            (Reply::Servers(Vec::new()), "02"),
            (Reply::Done, "080b4f4b"),
            (Reply::Names(Some(names.clone())), "11080c464f4f080c424152"),
            (Reply::Names(None), "00"),
        ] {
            assert_eq!(reply.encode(), bytes(hex), "{reply:?}");
            let value = Reply::decode(&bytes(hex)).unwrap();
            match reply {
                Reply::Servers(servers) => assert_eq!(Reply::servers(value), Some(servers)),
                Reply::Done => assert!(Reply::is_done(&value)),
                Reply::Names(names) => assert_eq!(Reply::names(value), Some(names)),
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_no_request() {
        let of = |items: Vec<Brine>| Request::decode(&to_bytes(&Brine::Tuple(items))).unwrap();
        let one = |value| Brine::Tuple(vec![value]);
        assert!(
            of(vec![text("RPYC"), text("query"), one(text("a"))]).is_some(),
            "in any case"
        );
        for wrong in [
            vec![],
            vec![text("RPYC"), text("QUERY")],
            vec![text("rpyc"), text("QUERY"), one(text("a"))],
            vec![text("RPYC"), text("DROP"), one(text("a"))],
            vec![text("RPYC"), number(1), one(text("a"))],
            vec![text("RPYC"), text("QUERY"), one(number(1))],
            vec![text("RPYC"), text("UNREGISTER"), one(number(0))],
            vec![text("RPYC"), text("UNREGISTER"), one(Brine::Int(65536))],
            vec![text("RPYC"), text("LIST"), one(one(number(1)))],
            vec![
                text("RPYC"),
                text("REGISTER"),
                Brine::Tuple(vec![one(number(1)), number(1)]),
            ],
        ] {
            assert_eq!(of(wrong.clone()), None, "{wrong:?}");
        }
        assert_eq!(Request::decode(&to_bytes(&number(1))), Ok(None));
        assert!(Request::decode(&Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn a_reply_has_as_many_of_the_last_servers_as_fit() {
        let servers: Vec<_> = (0..200)
            .map(|number| (format!("10.0.0.{number}"), 18861))
            .collect();
        let packet = Reply::Servers(servers.clone()).encode();
        assert!(
            packet.len() <= MOST && packet.len() > MOST - 40,
            "{}",
            packet.len()
        );
        let told = Reply::servers(Reply::decode(&packet).unwrap()).unwrap();
        assert!(told.len() > 50 && servers.ends_with(&told));
    }

    proptest! {
        #[test]
        fn bytes_make_a_request_or_none(packet in prop::collection::vec(any::<u8>(), 0..64)) {
            fuzz(&packet);
        }
    }
}
