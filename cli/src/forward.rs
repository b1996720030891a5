//! `farref forward`: connections of one machine that go on at another.

use std::io::Write;

use clap::{ArgGroup, Args};
use farref::network::{Forwarding, Network, Target, Trouble, forward_local, forward_remote, forward_socks};
use farref::{Netref, Status};
use tokio::net::TcpListener;

use crate::context::Global;
use crate::failure::{Code, Failure, Outcome};
use crate::far::{Far, failed};
use crate::interrupts::Interrupts;
use crate::output::{Out, harmless};

/// Forward connections to another machine, and from it.
///
/// It goes on until it is ended, also when the way is lost for a while. A port of 0 is any free one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref forward tcp://rig7:7000 -L 8080:intranet:80
      port 8080 here leads to what rig7 sees as intranet:80
  farref forward tcp://rig7:7000 -R 9000:localhost:3000
      port 9000 of rig7 leads to port 3000 here
  farref forward tcp://rig7:7000 -D 1080
      port 1080 here is a SOCKS5 proxy that connects from rig7
  farref forward tcp://rig7:7000 -L 2375:unix:/run/docker.sock -L 5432:db:5432")]
#[command(override_usage = "farref forward <-L|-R|-D SPEC>... [OPTIONS] <ADDRESS>")]
#[command(group(ArgGroup::new("way").args(["local", "remote", "socks"]).required(true).multiple(true)))]
pub(crate) struct Forward {
    /// Where to dial
    address: String,
    /// Listen here, connect from there
    #[arg(short = 'L', long = "local", value_name = "[BIND:]PORT:HOST:PORT")]
    local: Vec<String>,
    /// Listen there, connect from here
    #[arg(short = 'R', long = "remote", value_name = "[BIND:]PORT:HOST:PORT")]
    remote: Vec<String>,
    /// Listen here for SOCKS5, connect from there
    #[arg(short = 'D', long = "socks", value_name = "[BIND:]PORT")]
    socks: Vec<String>,
}

impl Forward {
    pub(crate) async fn run(&self, global: &Global) -> Outcome {
        // What is wrong with the command line is told before anybody is dialled.
        let specs = |texts: &[String]| texts.iter().map(|text| spec(text)).collect::<Outcome<Vec<_>>>();
        let (local, remote) = (specs(&self.local)?, specs(&self.remote)?);
        let socks = self
            .socks
            .iter()
            .map(|text| bound(text))
            .collect::<Outcome<Vec<_>>>()?;
        let far = Far::connect(&self.address, global).await?;
        let network = far.host.call().network().await;
        let network = network.map_err(|error| far.failed("cannot use the network there", &error))?;
        // Whoever has read that it has started may end it.
        let mut interrupts = Interrupts::listen()?;
        let mut out = Out::new(global);
        let mut forwardings = Vec::new();
        for (at, to) in local {
            let listener = listen(&at).await?;
            let here = address(&listener)?;
            forwardings.push(forward_local(listener, &network, to.clone(), report));
            out.note(&format!("{here} here -> {to} there"))?;
        }
        for (at, to) in remote {
            let forwarding = remotely(&network, at, to.clone()).await?;
            let there = forwarding.address().map_or(String::new(), ToString::to_string);
            out.note(&format!("{} there -> {to} here", harmless(&there)))?;
            forwardings.push(forwarding);
        }
        for at in socks {
            let listener = listen(&at).await?;
            let here = address(&listener)?;
            forwardings.push(forward_socks(listener, &network, report));
            out.note(&format!("{here} here, by SOCKS5 -> from there"))?;
        }
        out.finish()?;
        let mut watch = far.connection.watch();
        let lost = async {
            loop {
                match watch.next().await {
                    Status::Over(error) => return error,
                    Status::Down(error) if !global.quiet => {
                        say(&format!("the way is lost, and is looked for: {error}"))
                    }
                    _ => {}
                }
            }
        };
        let outcome = tokio::select! {
            error = lost => Err(Failure::of("the connection is over", &error).code(Code::Connection as u8)),
            () = interrupts.next() => Ok(()),
        };
        drop(forwardings);
        outcome?;
        far.connection.close().await;
        Ok(())
    }
}

async fn remotely(network: &Netref<dyn Network>, at: Target, to: Target) -> Outcome<Forwarding> {
    let what = format!("cannot listen at {at} there");
    forward_remote(network, at, to, report)
        .await
        .map_err(|error| failed(what, error))
}

async fn listen(at: &Target) -> Outcome<TcpListener> {
    let failed = |error| Failure::io(format_args!("cannot listen at {at}"), &error);
    TcpListener::bind(at.to_string()).await.map_err(failed)
}

fn address(of: &TcpListener) -> Outcome<String> {
    let address = of
        .local_addr()
        .map_err(|error| Failure::io("where do we listen?", &error))?;
    Ok(address.to_string())
}

/// Tells of a connection that could not be made: the others go on.
#[expect(clippy::needless_pass_by_value, reason = "as it is handed out")]
fn report(trouble: Trouble) {
    say(&harmless(&trouble.to_string()));
}

fn say(text: &str) {
    // There is nobody left to tell if that fails.
    let _ = writeln!(std::io::stderr(), "farref: {text}");
}

/// `[BIND:]PORT:TARGET`: where to listen, and where to connect to.
fn spec(text: &str) -> Outcome<(Target, Target)> {
    let wrong = || {
        Failure::usage(format_args!("`{text}` is not [BIND:]PORT:HOST:PORT"))
            .hint("such as 8080:intranet:80, 127.0.0.1:8080:[::1]:80 or 2375:unix:/run/docker.sock")
    };
    let (at, to) = match text.split_once(":unix:") {
        Some((at, path)) => (at, Target::unix(path)),
        None => {
            // The last two parts, where brackets hold together what is between them.
            let before_port = text.rfind(':').ok_or_else(wrong)?;
            let head = text.get(..before_port).unwrap_or_default();
            let host = if head.ends_with(']') {
                head.rfind('[')
            } else {
                head.rfind(':').map(|at| at + 1)
            };
            let host = host.ok_or_else(wrong)?;
            let at = text
                .get(..host)
                .and_then(|at| at.strip_suffix(':'))
                .ok_or_else(wrong)?;
            let to = text.get(host..).unwrap_or_default();
            (at, to.parse().map_err(|_| wrong())?)
        }
    };
    Ok((bound(at).map_err(|_| wrong())?, to))
}

/// `[BIND:]PORT`, by default of this machine alone.
fn bound(text: &str) -> Outcome<Target> {
    let wrong = || Failure::usage(format_args!("`{text}` is not [BIND:]PORT"));
    match text.parse::<u16>() {
        Ok(port) => Ok(Target::tcp("127.0.0.1", port)),
        Err(_) => match text.replace("*:", "0.0.0.0:").parse() {
            Ok(Target::Unix { .. }) | Err(_) => Err(wrong()),
            Ok(target) => Ok(target),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwardings_are_written_as_for_ssh() {
        let read = |text: &str| spec(text).ok().map(|(at, to)| (at.to_string(), to.to_string()));
        for (text, at, to) in [
            ("8080:intranet:80", "127.0.0.1:8080", "intranet:80"),
            ("0.0.0.0:8080:intranet:80", "0.0.0.0:8080", "intranet:80"),
            ("*:8080:intranet:80", "0.0.0.0:8080", "intranet:80"),
            ("8080:[::1]:80", "127.0.0.1:8080", "[::1]:80"),
            ("[::1]:8080:[::1]:80", "[::1]:8080", "[::1]:80"),
            (
                "2375:unix:/run/docker.sock",
                "127.0.0.1:2375",
                "unix:/run/docker.sock",
            ),
        ] {
            assert_eq!(read(text), Some((at.to_owned(), to.to_owned())), "{text}");
        }
        for wrong in [
            "",
            "80",
            "host:80",
            "x:host:80",
            "80:host:x",
            "80:host:99999",
            ":::",
            "unix:/x:host:80",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
