//! Dialling a peer, the first time and whenever its carrier is lost.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use farref_boxing::{Error, ErrorKind, Result};
use farref_framing::rpyc::frame_by_frame;
use farref_framing::{PeerEvidence, Role};
use farref_netref::rpyc::Generation;
use farref_netref::{BoxFuture, Config, Connection, NextCarrier, Redial, Restore, Root};
use farref_transport::{Address, Carrier, Dialect, Media};

use crate::dependable::dependable;
use crate::establish::Opened;
use crate::protect::{Newcomer, Protection, Trust};
use crate::rpyc::{self, Manner};
use crate::sessions::succeeds;

/// One way to a peer.
pub(crate) struct Way {
    address: Address,
    protection: Protection,
    media: Media,
    /// How the peer speaks RPyC, if that is spoken there.
    rpyc: Option<Manner>,
}

impl Way {
    /// # Errors
    ///
    /// Keys are needed and there are none.
    pub(crate) async fn new(address: Address, trust: Option<Trust>, media: Option<Media>) -> Result<Self> {
        let protection = Protection::of(&address, trust).await?;
        let media = protection.media(media.unwrap_or_else(Media::standard));
        let rpyc = match address.dialect() {
            Dialect::Rpyc => Some(Manner::of(&address)),
            _ => None,
        };
        Ok(Self {
            address,
            protection,
            media,
            rpyc,
        })
    }

    /// Opens a carrier on which the peer has proved what the address demands, and says whom to remember when it has
    /// introduced itself.
    async fn dial(&self, setup: Duration) -> Result<(Opened, Option<Newcomer>)> {
        let Self {
            address,
            protection,
            media,
            ..
        } = self;
        let bare = match &self.rpyc {
            Some(_) => rpyc::bare(address.clone()),
            None => protection.bare(address),
        };
        let mut carrier = media.dial(&bare).await.map_err(|error| {
            // In the words of the one who dialled.
            let why = std::error::Error::source(&error)
                .map(|why| format!(": {why}"))
                .unwrap_or_default();
            let text = format!("{error}{why}").replace(&bare.to_string(), &address.to_string());
            Error::new(dial_error_kind(&error), text)
        })?;
        if let (Some(_), Carrier::Stream(stream)) = (&self.rpyc, &mut carrier) {
            stream.info.remote = Some(address.clone());
        }
        if self.rpyc.is_some() {
            carrier = frame_by_frame(carrier);
        }
        let protecting = async {
            // A little less than the setup may take: what is wrong with a line is told then.
            let (carrier, role) = dependable(carrier, Role::Dialer, Some(setup.mul_f32(0.8))).await?;
            let carrier = protection.apply(carrier, role, Some(address)).await?;
            let newcomer = protection.check_answer(carrier.info(), address).await?;
            Ok((Opened::new(carrier, role, true).await?, newcomer))
        };
        self.within(setup, protecting).await
    }

    /// A connection with a peer that speaks RPyC: with one of the other generation than it was taken for, the second.
    async fn connect_rpyc(&self, manner: &Manner, root: &Root, config: &Config) -> Result<Connection> {
        let first = manner.first();
        let (spoken, done) = match self.speak_rpyc(manner, first, root, config).await {
            Err(error) => match manner.second(first, &error) {
                Some(second) => (second, self.speak_rpyc(manner, second, root, config).await),
                None => (first, Err(error)),
            },
            done => (first, done),
        };
        done.inspect(|_| manner.remember(spoken)).map_err(|error| {
            match rpyc::suspicion(&self.address, error.kind()) {
                Some(suspicion) => error.context(format_args!("{}: {suspicion}", self.address)),
                None => error,
            }
        })
    }

    async fn speak_rpyc(
        &self,
        manner: &Manner,
        generation: Generation,
        root: &Root,
        config: &Config,
    ) -> Result<Connection> {
        let (opened, _) = self.dial(config.setup_timeout).await?;
        let rpyc = manner.speak(root.clone(), generation, config);
        let shows_root = root.clone().into_object().is_some();
        let connection = opened.speak(rpyc, shows_root, config.clone())?;
        self.within(config.setup_timeout, connection.established())
            .await?;
        Ok(connection)
    }

    async fn within<T>(&self, setup: Duration, done: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(setup, done).await.unwrap_or_else(|_| {
            let text = format!("{} did not introduce itself within {setup:?}", self.address);
            Err(Error::new(ErrorKind::Incompatible, text))
        })
    }
}

/// All ways to a peer.
pub(crate) struct Dialler {
    pub(crate) ways: Vec<Way>,
    pub(crate) config: Config,
}

impl Dialler {
    /// A connection by the first way that leads there, which goes on by any way.
    pub(crate) async fn connect(self: &Arc<Self>, root: &Root) -> Result<Connection> {
        let mut failed = None;
        for way in &self.ways {
            match self.connect_by(way, root).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(no_way))
    }

    async fn connect_by(self: &Arc<Self>, way: &Way, root: &Root) -> Result<Connection> {
        if let Some(manner) = &way.rpyc {
            return way.connect_rpyc(manner, root, &self.config).await;
        }
        let setup = self.config.setup_timeout;
        let (opened, newcomer) = way.dial(setup).await?;
        let redial = Arc::new(Again {
            dialler: Arc::clone(self),
            before: opened.info.peer.clone(),
        });
        let connection = opened.dial(root.clone(), redial, self.config.clone())?;
        way.within(setup, connection.established()).await?;
        if let Some(newcomer) = newcomer {
            newcomer.remember().await?;
        }
        Ok(connection)
    }

    /// A carrier by the way on which the peer that was known by `before` answers first. It is not asked to go on where it
    /// proves less than before: it would not believe us either, and somebody else could end the session there.
    async fn first(&self, before: &PeerEvidence) -> Result<NextCarrier> {
        let setup = self.config.setup_timeout;
        type Dialling<'a> = Pin<Box<dyn Future<Output = Result<(Opened, Option<Newcomer>)>> + Send + 'a>>;
        // A session is farref's own.
        let mut dialling: Vec<Dialling<'_>> = self
            .ways
            .iter()
            .filter(|way| way.rpyc.is_none())
            .map(|way| Box::pin(way.dial(setup)) as _)
            .collect();
        let mut failed = None;
        let opened = std::future::poll_fn(|context| {
            let mut at = 0;
            while let Some(way) = dialling.get_mut(at) {
                match way.as_mut().poll(context) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok((opened, _))) if succeeds(before, &opened.info.peer) => {
                        return Poll::Ready(Ok(opened));
                    }
                    Poll::Ready(other) => {
                        let error = other.err().unwrap_or_else(|| {
                            let text = "who answers there does not prove to be the same peer";
                            Error::new(ErrorKind::Denied, text)
                        });
                        drop(dialling.swap_remove(at));
                        failed = failed.take().or(Some(error));
                    }
                }
            }
            if dialling.is_empty() {
                return Poll::Ready(Err(failed.take().unwrap_or_else(no_way)));
            }
            Poll::Pending
        });
        opened.await?.next(&self.config)
    }
}

/// Finds other carriers, with a pause that grows between the attempts.
struct Again {
    dialler: Arc<Dialler>,
    /// What was known of the peer when the session began.
    before: PeerEvidence,
}

impl Redial for Again {
    fn redial(&self, attempt: u32) -> BoxFuture<'static, Result<NextCarrier>> {
        let (dialler, before) = (Arc::clone(&self.dialler), self.before.clone());
        Box::pin(async move {
            tokio::time::sleep(pause(attempt, random())).await;
            dialler.first(&before).await
        })
    }
}

/// Makes connections anew, with the same pauses.
pub(crate) struct Anew {
    pub(crate) dialler: Arc<Dialler>,
    pub(crate) root: Root,
}

impl Restore for Anew {
    fn restore(&self, attempt: u32) -> BoxFuture<'static, Result<Connection>> {
        let (dialler, root) = (Arc::clone(&self.dialler), self.root.clone());
        Box::pin(async move {
            tokio::time::sleep(pause(attempt, random())).await;
            dialler.connect(&root).await
        })
    }
}

fn no_way() -> Error {
    Error::new(ErrorKind::Address, "no address")
}

/// The pause before an attempt: none before the first, then a quarter of a second, growing to a quarter of a minute,
/// a fifth more or less by chance (`chance`: 0 to 255), so that not all peers of a host come back at once.
fn pause(attempt: u32, chance: u8) -> Duration {
    let Some(grown) = attempt.checked_sub(1) else {
        return Duration::ZERO;
    };
    let grown = i32::try_from(grown.min(32)).unwrap_or(32);
    let seconds = (0.25 * 1.6_f64.powi(grown)).min(15.0);
    Duration::from_secs_f64(seconds * (0.8 + 0.4 * f64::from(chance) / 255.0))
}

fn random() -> u8 {
    let mut byte = [128];
    // Without chance they come back at the same time: no reason to give up.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

fn dial_error_kind(error: &farref_transport::DialError) -> ErrorKind {
    use farref_transport::DialError as E;
    match error {
        E::Unsupported { .. } => ErrorKind::Unsupported,
        E::NotEncrypted { .. } => ErrorKind::Address,
        E::WrongKey { .. } | E::Untrusted { .. } => ErrorKind::Denied,
        _ => ErrorKind::Carrier,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_none_to_a_quarter_of_a_minute_and_differ_by_chance() {
        let millis = |attempt, chance| pause(attempt, chance).as_millis();
        assert_eq!([0, 1, 2, 3].map(|attempt| millis(attempt, 0)), [0, 200, 320, 512]);
        assert_eq!([0, 1, 2].map(|attempt| millis(attempt, 255)), [0, 300, 480]);
        assert_eq!([millis(100, 0), millis(u32::MAX, 255)], [12_000, 18_000]);
    }

    /// A peer that was gone was dialled without a pause.
    #[tokio::test]
    async fn each_attempt_after_the_first_waits_before_it_dials() {
        let dialler = Arc::new(Dialler {
            ways: Vec::new(),
            config: Config::default(),
        });
        let again = Again {
            dialler: Arc::clone(&dialler),
            before: PeerEvidence::None,
        };
        let root = Root::NONE;
        let anew = Anew { dialler, root };
        assert!(
            again.redial(0).await.is_err() && anew.restore(0).await.is_err(),
            "no way"
        );
        let (mut again, mut anew) = (again.redial(20), anew.restore(20));
        let looked = std::future::poll_fn(|context| {
            let looked = [
                again.as_mut().poll(context).is_pending(),
                anew.as_mut().poll(context).is_pending(),
            ];
            Poll::Ready(looked)
        });
        assert_eq!(looked.await, [true, true]);
    }
}
