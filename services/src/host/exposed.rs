//! Which services a peer gets, decided by the program and by the options of the peer's key.

use std::collections::BTreeMap;
use std::fmt;

use farref_boxing::{Error, ErrorKind, Result};
use farref_netref::{Netref, Object, Peer, RemoteTrait, Root, remote};

use super::Host;
use crate::files::{Files, FilesRoot};
use crate::logs::Logs;
use crate::network::Network;
use crate::policy::Policy;
use crate::processes::Processes;
use crate::serial_ports::SerialPorts;
use crate::service::Service;
use crate::system::{self, System};

/// The services that a program shows to its peers, as one [`Host`]: nothing but what it names.
///
/// A peer whose key has the option `services="files,system"` gets those of them; one with `readonly` gets the files to
/// be read, `system`, `logs` and the program's own read only, and nothing else. What a peer may not use is
/// [`Denied`](ErrorKind::Denied), and logged with its name.
#[derive(Clone, Default)]
pub struct Exposed {
    services: BTreeMap<String, Offer>,
}

/// What there is under a name; `F` are its files: their root as the program has it, or what one peer gets of that.
#[derive(Clone)]
enum Offer<F = FilesRoot> {
    Files(F),
    Processes(Netref<dyn Processes>),
    System(Netref<dyn System>),
    Network(Netref<dyn Network>),
    Serial(Netref<dyn SerialPorts>),
    Logs(Netref<dyn Logs>),
    /// One of the program's own.
    Other(Object),
}

impl Offer {
    fn only_reads(&self) -> bool {
        match self {
            // They are made to.
            Self::Files(_) | Self::System(_) | Self::Logs(_) | Self::Other(_) => true,
            Self::Processes(_) | Self::Network(_) | Self::Serial(_) => false,
        }
    }
}

impl Exposed {
    /// Nothing, to begin with.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// All that this account may do: its files, processes, connections and ports. For whoever is trusted with it, as by ssh.
    ///
    /// What the program logs is added by [`logs`](Self::logs).
    #[must_use]
    pub fn everything() -> Self {
        let exposed = Self::nothing()
            .files(FilesRoot::machine())
            .system()
            .network(crate::network::share(crate::network::NetworkRules::everything()));
        #[cfg(unix)]
        let exposed = exposed.processes(crate::processes::share(crate::processes::Limits::default()));
        #[cfg(all(unix, feature = "serial"))]
        let exposed = exposed.serial(crate::serial_ports::share());
        exposed
    }

    /// Shows these files. Each peer gets limits of its own.
    #[must_use]
    pub fn files(self, root: FilesRoot) -> Self {
        self.offer("files", Offer::Files(root))
    }

    /// Lets processes be run: whoever may use it can do whatever this process can.
    #[must_use]
    pub fn processes(self, processes: Netref<dyn Processes>) -> Self {
        self.offer("processes", Offer::Processes(processes))
    }

    /// Tells what the machine is and how busy it is, with the variables of the environment.
    #[must_use]
    pub fn system(self) -> Self {
        self.offer("system", Offer::System(system::share()))
    }

    /// Lets connections be made from here, and to here.
    #[must_use]
    pub fn network(self, network: Netref<dyn Network>) -> Self {
        self.offer("network", Offer::Network(network))
    }

    /// Lets serial ports be used.
    #[must_use]
    pub fn serial(self, ports: Netref<dyn SerialPorts>) -> Self {
        self.offer("serial", Offer::Serial(ports))
    }

    /// Shows what the program logs: see [`LogRing`](crate::logs::LogRing).
    #[must_use]
    pub fn logs(self, logs: Netref<dyn Logs>) -> Self {
        self.offer("logs", Offer::Logs(logs))
    }

    /// Shows a service of the program's own under `name`. A peer that may only read gets it read only: see
    /// [`Policy::read_only`].
    #[must_use]
    pub fn with<T: ?Sized + RemoteTrait>(self, name: &str, service: &Netref<T>) -> Self {
        self.offer(name, Offer::Other(service.dynamic()))
    }

    fn offer(mut self, name: &str, offer: Offer) -> Self {
        self.services.insert(name.into(), offer);
        self
    }

    /// What a peer sees of it: the services that are among `named`, if there are any, and only to be read if `reads`.
    fn show(&self, peer: &Peer, named: &[String], reads: bool) -> Netref<dyn Host> {
        let mut shown = Shown {
            peer: peer.clone(),
            services: BTreeMap::new(),
        };
        for (name, offer) in &self.services {
            let is_granted = named.is_empty() || named.contains(name);
            let service = match offer {
                _ if !is_granted => Err(Why::NotGranted(named.join(","))),
                _ if reads && !offer.only_reads() => Err(Why::OnlyReads),
                Offer::Files(root) if reads => Ok(Offered::Files(root.clone().read_only().share())),
                Offer::Files(root) => Ok(Offered::Files(root.share())),
                Offer::Processes(processes) => Ok(Offered::Processes(processes.clone())),
                Offer::System(system) => Ok(Offered::System(system.clone())),
                Offer::Network(network) => Ok(Offered::Network(network.clone())),
                Offer::Serial(ports) => Ok(Offered::Serial(ports.clone())),
                Offer::Logs(logs) => Ok(Offered::Logs(logs.clone())),
                Offer::Other(object) if reads => {
                    Ok(Offered::Other(object.guarded(Policy::new().read_only())))
                }
                Offer::Other(object) => Ok(Offered::Other(object.clone())),
            };
            shown.services.insert(name.clone(), service);
        }
        Netref::of(shown)
    }
}

impl fmt::Debug for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.services.keys()).finish()
    }
}

impl Service for Exposed {
    fn root(&self, peer: &Peer) -> Result<Root> {
        Ok(Root::of(&self.show(peer, &[], false)))
    }

    #[cfg(feature = "noise")]
    fn granted(&self, peer: &Peer, grant: &crate::keys::Grant) -> Result<Root> {
        Ok(Root::of(&self.show(peer, &grant.services, grant.is_read_only)))
    }
}

/// Why a peer does not get a service.
#[derive(Debug, Clone)]
enum Why {
    /// Its key is for these.
    NotGranted(String),
    OnlyReads,
}

/// A service that a peer gets.
type Offered = Offer<Netref<dyn Files>>;

/// The root of one peer.
struct Shown {
    peer: Peer,
    services: BTreeMap<String, Result<Offered, Why>>,
}

impl Shown {
    fn find(&self, name: &str) -> Result<&Offered> {
        let why = match self.services.get(name) {
            Some(Ok(offered)) => return Ok(offered),
            Some(Err(Why::NotGranted(granted))) => {
                format!("its key is for services=\"{granted}\"; add `{name}` there in authorized_peers")
            }
            Some(Err(Why::OnlyReads)) => {
                "its key has the option `readonly` in authorized_peers, and this service does more than read"
                    .to_owned()
            }
            None => "the program over there does not offer it".to_owned(),
        };
        // A name is the peer's: no more of it is logged than can be one.
        let name: String = name.chars().take(64).collect();
        let peer = &self.peer;
        peer.warn(|left_out| tracing::warn!(%peer, service = ?name, left_out, "not exposed: refused"));
        let text = format!("`{name}` is not exposed to this peer: {why}");
        Err(Error::new(ErrorKind::Denied, text))
    }
}

/// A service of one kind, or that it is something else, which the names of [`Exposed::with`] can lead to.
macro_rules! find {
    ($self:ident, $name:literal, $kind:ident) => {
        match $self.find($name)? {
            Offered::$kind(service) => Ok(service.clone()),
            _ => Err(Error::new(
                ErrorKind::Denied,
                concat!(
                    "`",
                    $name,
                    "` is a service of the program's own: ask for it by its name"
                ),
            )),
        }
    };
}

#[remote]
impl Host for Shown {
    async fn files(&self) -> Result<Netref<dyn Files>> {
        find!(self, "files", Files)
    }

    async fn processes(&self) -> Result<Netref<dyn Processes>> {
        find!(self, "processes", Processes)
    }

    async fn system(&self) -> Result<Netref<dyn System>> {
        find!(self, "system", System)
    }

    async fn network(&self) -> Result<Netref<dyn Network>> {
        find!(self, "network", Network)
    }

    async fn serial(&self) -> Result<Netref<dyn SerialPorts>> {
        find!(self, "serial", Serial)
    }

    async fn logs(&self) -> Result<Netref<dyn Logs>> {
        find!(self, "logs", Logs)
    }

    async fn services(&self) -> Result<Vec<String>> {
        let offered = self.services.iter().filter(|(_, offered)| offered.is_ok());
        Ok(offered.map(|(name, _)| name.clone()).collect())
    }

    async fn service(&self, name: &str) -> Result<Object> {
        Ok(match self.find(name)? {
            Offered::Files(service) => service.dynamic(),
            Offered::Processes(service) => service.dynamic(),
            Offered::System(service) => service.dynamic(),
            Offered::Network(service) => service.dynamic(),
            Offered::Serial(service) => service.dynamic(),
            Offered::Logs(service) => service.dynamic(),
            Offered::Other(object) => object.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use farref_framing::PeerEvidence;

    use super::*;
    use crate::files::OpenMode;

    fn shown(exposed: &Exposed, named: &[&str], reads: bool) -> Netref<dyn Host> {
        let peer = Peer::new("mem", None, PeerEvidence::None);
        let named: Vec<_> = named.iter().map(ToString::to_string).collect();
        exposed.show(&peer, &named, reads)
    }

    fn why<T>(denied: Result<T>) -> String {
        let error = denied.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Denied);
        error.message().into_owned()
    }

    #[tokio::test]
    async fn a_peer_gets_what_is_exposed_and_nothing_else() -> Result<()> {
        let exposed = Exposed::nothing()
            .files(FilesRoot::at("."))
            .system()
            .with("bench", &Netref::<dyn Tap>::of(Kitchen));
        let host = shown(&exposed, &[], false);
        assert_eq!(host.services().await?, ["bench", "files", "system"]);
        host.files().await?.stat("/").await?;
        host.system().await?.facts().await?;
        let level = host.service("bench").await?.call("level", ()).await?;
        assert_eq!(level.as_u64(), Some(7));
        assert_eq!(
            why(host.processes().await),
            "`processes` is not exposed to this peer: the program over there does not offer it"
        );
        assert!(why(host.service("root").await).starts_with("`root` is not exposed"));
        assert!(
            shown(&Exposed::nothing(), &[], false)
                .services()
                .await?
                .is_empty()
        );
        Ok(())
    }

    #[cfg(all(unix, feature = "serial"))]
    #[tokio::test]
    async fn everything_is_what_an_account_may_do() -> Result<()> {
        let all = Exposed::everything();
        let names = ["files", "network", "processes", "serial", "system"];
        assert_eq!(shown(&all, &[], false).services().await?, names);
        // With a key that may only look, that is not much.
        assert_eq!(shown(&all, &[], true).services().await?, ["files", "system"]);
        Ok(())
    }

    #[remote]
    trait Tap {
        #[reads]
        fn level(&self) -> Result<u32>;
        fn open(&self) -> Result<()>;
    }

    struct Kitchen;

    impl Tap for Kitchen {
        fn level(&self) -> Result<u32> {
            Ok(7)
        }

        fn open(&self) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_options_of_a_key_are_kept_to() -> Result<()> {
        let exposed = Exposed::nothing()
            .files(FilesRoot::at("."))
            .system()
            .with("bench", &Netref::<dyn Tap>::of(Kitchen));
        let some = shown(&exposed, &["files", "absent"], false);
        assert_eq!(some.services().await?, ["files"]);
        assert_eq!(
            why(some.system().await),
            "`system` is not exposed to this peer: its key is for services=\"files,absent\"; add `system` there in \
             authorized_peers"
        );
        let reads = shown(&exposed, &[], true);
        assert_eq!(reads.services().await?, ["bench", "files", "system"]);
        let tap: Netref<dyn Tap> = reads.service("bench").await?.cast().await?;
        assert_eq!(tap.call().level().await?, 7);
        assert!(why(tap.call().open().await).contains("read only"));
        assert!(reads.files().await?.open("x", OpenMode::CREATE).await.is_err());
        Ok(())
    }
}
