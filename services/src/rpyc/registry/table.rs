//! What a registry knows, and for how long: without IO, and the time is told.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::packet::{Reply, Request};
use super::server::RegistryLimits;

/// The servers of each name.
///
/// # Invariant
///
/// No name is without servers, and `count` is how many there are under all names.
#[derive(Debug)]
pub(super) struct Table {
    names: BTreeMap<String, BTreeMap<Server, Instant>>,
    count: usize,
    pub(super) forget_after: Duration,
    pub(super) is_listing: bool,
    pub(super) limits: RegistryLimits,
}

/// Where a server is.
type Server = (IpAddr, u16);

impl Table {
    pub(super) const fn new(forget_after: Duration, limits: RegistryLimits) -> Self {
        Self {
            names: BTreeMap::new(),
            count: 0,
            forget_after,
            is_listing: false,
            limits,
        }
    }

    /// What there is to say to a request that came from `from`; `None` if nothing, as there is no room.
    pub(super) fn handle(&mut self, request: Request, from: IpAddr, now: Instant) -> Option<Reply> {
        let from = from.to_canonical();
        match request {
            Request::Query(name) => {
                self.forget(now);
                Some(Reply::Servers(self.servers(&name)))
            }
            Request::Register(names, port) => {
                let is_done = self.register(&names, (from, port), now);
                is_done.then_some(Reply::Done)
            }
            Request::Unregister(port) => {
                self.retain(|server, _| *server != (from, port));
                Some(Reply::Done)
            }
            Request::List(host) => {
                self.forget(now);
                Some(Reply::Names(
                    self.is_listing.then(|| self.names_at(host.as_deref())),
                ))
            }
        }
    }

    /// The servers of a name; who was heard of last comes last, as in Python's.
    fn servers(&self, name: &str) -> Vec<(String, u16)> {
        let mut servers: Vec<_> = self
            .names
            .get(&name.to_uppercase())
            .into_iter()
            .flatten()
            .collect();
        servers.sort_by_key(|(_, heard)| **heard);
        let told = |((host, port), _): (&Server, &Instant)| (host.to_string(), *port);
        servers.into_iter().map(told).collect()
    }

    fn names_at(&self, host: Option<&str>) -> Vec<String> {
        let is_meant = |servers: &BTreeMap<Server, Instant>| {
            host.is_none_or(|host| servers.keys().any(|(at, _)| at.to_string() == host))
        };
        let named = self.names.iter().filter(|(_, servers)| is_meant(servers));
        named.map(|(name, _)| name.clone()).collect()
    }

    /// Whether there was room for all of it.
    fn register(&mut self, names: &[String], server: Server, now: Instant) -> bool {
        if names.len() > self.limits.names || names.iter().any(|name| name.len() > LONGEST) {
            return false;
        }
        let mut names: Vec<_> = names.iter().map(|name| name.to_uppercase()).collect();
        names.sort_unstable();
        names.dedup();
        if !self.has_room(&names, server) {
            self.forget(now);
            if !self.has_room(&names, server) {
                return false;
            }
        }
        for name in names {
            let is_new = self.names.entry(name).or_default().insert(server, now).is_none();
            self.count = self.count.saturating_add(usize::from(is_new));
        }
        true
    }

    fn has_room(&self, names: &[String], server: Server) -> bool {
        let is_there = |name: &&String| {
            self.names
                .get(*name)
                .is_some_and(|servers| servers.contains_key(&server))
        };
        let new = names.iter().filter(|name| !is_there(name)).count();
        if new == 0 {
            return true;
        }
        let [first, last] = neighbours(server.0);
        let of_host =
            |servers: &BTreeMap<Server, Instant>| servers.range((first, 0)..=(last, u16::MAX)).count();
        let of_host: usize = self.names.values().map(of_host).sum();
        self.count.saturating_add(new) <= self.limits.servers
            && of_host.saturating_add(new) <= self.limits.servers_per_host
    }

    /// Forgets who was not heard of for too long.
    fn forget(&mut self, now: Instant) {
        let forget_after = self.forget_after;
        self.retain(|_, heard| now.saturating_duration_since(heard) <= forget_after);
    }

    fn retain(&mut self, keep: impl Fn(&Server, Instant) -> bool) {
        for servers in self.names.values_mut() {
            servers.retain(|server, heard| keep(server, *heard));
        }
        self.names.retain(|_, servers| !servers.is_empty());
        self.count = self.names.values().map(BTreeMap::len).sum();
    }
}

/// The first and the last of the addresses that one host may have at will: of IPv6, those with the same first 64 bits.
fn neighbours(host: IpAddr) -> [IpAddr; 2] {
    match host {
        IpAddr::V4(_) => [host; 2],
        IpAddr::V6(ip) => {
            let (own, most) = (ip.to_bits(), u128::from(u64::MAX));
            [own & !most, own | most].map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}

/// Longest name, in bytes.
const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn table() -> Table {
        Table::new(Duration::from_secs(240), RegistryLimits::default())
    }

    fn register(names: &[&str], port: u16) -> Request {
        Request::Register(names.iter().map(ToString::to_string).collect(), port)
    }

    fn servers(table: &mut Table, name: &str, now: Instant) -> Vec<u16> {
        match table.handle(Request::Query(name.into()), THERE, now) {
            Some(Reply::Servers(servers)) => servers.into_iter().map(|(_, port)| port).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_is_known_by_its_names_in_any_case_until_it_is_not_heard_of_any_more() {
        let (mut table, start) = (table(), Instant::now());
        let after = |secs| start + Duration::from_secs(secs);
        assert_eq!(
            table.handle(register(&["foo", "Bar"], 1), HERE, start),
            Some(Reply::Done)
        );
        assert_eq!(
            table.handle(register(&["FOO"], 2), THERE, after(10)),
            Some(Reply::Done)
        );
        assert_eq!(servers(&mut table, "Foo", after(240)), [1, 2]);
        assert_eq!(
            table.handle(register(&["foo"], 1), HERE, after(240)),
            Some(Reply::Done)
        );
        assert_eq!(
            servers(&mut table, "foo", after(241)),
            [2, 1],
            "who was heard of last comes last"
        );
        assert_eq!(
            servers(&mut table, "bar", after(241)),
            [],
            "it was not registered again"
        );
        assert_eq!(servers(&mut table, "foo", after(480)), [1]);
        assert_eq!(servers(&mut table, "foo", after(481)), []);
        assert!(table.names.is_empty() && table.count == 0);
    }

    #[test]
    fn a_server_takes_back_only_what_is_its_own() {
        let (mut table, now) = (table(), Instant::now());
        for (from, port) in [(HERE, 1), (HERE, 2), (THERE, 1)] {
            table.handle(register(&["a", "b"], port), from, now);
        }
        assert_eq!(table.handle(Request::Unregister(1), HERE, now), Some(Reply::Done));
        assert_eq!(servers(&mut table, "a", now).len(), 2);
        assert_eq!(table.count, 4);
        assert_eq!(table.handle(Request::Unregister(9), HERE, now), Some(Reply::Done));
    }

    #[test]
    fn names_are_told_only_where_that_was_allowed() {
        let (mut table, now) = (table(), Instant::now());
        table.handle(register(&["a", "b"], 1), HERE, now);
        table.handle(register(&["c"], 1), THERE, now);
        let list = |table: &mut Table, host: Option<&str>| {
            table.handle(Request::List(host.map(ToOwned::to_owned)), HERE, now)
        };
        assert_eq!(list(&mut table, None), Some(Reply::Names(None)));
        table.is_listing = true;
        let names = |names: &[&str]| {
            Some(Reply::Names(Some(
                names.iter().map(ToString::to_string).collect(),
            )))
        };
        assert_eq!(list(&mut table, None), names(&["A", "B", "C"]));
        assert_eq!(list(&mut table, Some("10.0.0.2")), names(&["C"]));
        assert_eq!(list(&mut table, Some("10.0.0.3")), names(&[]));
    }

    #[test]
    fn a_host_is_none_the_more_for_its_many_addresses_of_one_network() {
        let mut table = table();
        table.limits.servers_per_host = 2;
        let now = Instant::now();
        for ((from, is_taken), port) in [
            ("2001:db8::1", true),
            ("2001:db8::2", true),
            ("2001:db8::ffff:ffff:ffff:ffff", false),
            ("2001:db8:0:1::1", true),
            ("2001:db7:ffff:ffff::1", true),
        ]
        .into_iter()
        .zip(1..)
        {
            let reply = table.handle(register(&["a"], port), from.parse().unwrap(), now);
            assert_eq!(reply.is_some(), is_taken, "{from}");
        }
    }

    #[test]
    fn nobody_fills_the_table() {
        let mut table = table();
        table.limits = RegistryLimits {
            names: 2,
            servers: 4,
            servers_per_host: 3,
        };
        let start = Instant::now();
        assert_eq!(
            table.handle(register(&["a", "b", "c"], 1), HERE, start),
            None,
            "too many names"
        );
        assert_eq!(
            table.handle(register(&[&"n".repeat(256)], 1), HERE, start),
            None,
            "too long"
        );
        assert!(table.handle(register(&["a", "A"], 1), HERE, start).is_some());
        assert_eq!(table.count, 1, "the same name twice");
        assert!(table.handle(register(&["a", "b"], 2), HERE, start).is_some());
        assert_eq!(
            table.handle(register(&["a"], 3), HERE, start),
            None,
            "too many of one host"
        );
        assert!(
            table.handle(register(&["a", "b"], 2), HERE, start).is_some(),
            "again"
        );
        assert!(table.handle(register(&["a"], 3), THERE, start).is_some());
        assert_eq!(
            table.handle(register(&["a"], 4), THERE, start),
            None,
            "too many in all"
        );
        let later = start + Duration::from_secs(241);
        assert!(
            table.handle(register(&["a"], 4), THERE, later).is_some(),
            "the others are forgotten"
        );
        assert_eq!(table.count, 1);
    }
}
