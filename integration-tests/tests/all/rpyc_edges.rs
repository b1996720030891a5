//! The edges of RPyC, with Python peers: every medium on the way, the generation found out, and registries.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use farref::rpyc::registry::{Registry, RegistryClient};
use farref::transport::Address;
use farref::transport::address::{Dialect, Target};
use farref::{Reconnect, Result, Server, connect, remote};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::python::{Medium, Offer, Python, Version};
use farref_integration_tests::sshd::Sshd;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

#[remote]
trait Adder {
    fn add(&self, a: i64, b: i64) -> Result<i64>;
}

struct Own;

impl Adder for Own {
    fn add(&self, a: i64, b: i64) -> Result<i64> {
        Ok(a + b)
    }
}

/// Files of a certificate that signed itself, as `openssl req -x509` makes them, and of its key.
struct Certificate(tempfile::TempDir);

impl Certificate {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("certificate"), certificate.pem()).unwrap();
        std::fs::write(directory.path().join("key"), key.serialize_pem()).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn option(&self, address: Address, option: &str, name: &str) -> Address {
        let path = self.path(name);
        address.with_option(option, path.to_str().unwrap()).unwrap()
    }
}

async fn add(address: &Address) -> Result<i64> {
    let connection = connect(address).await?;
    let adder = connection.root::<dyn Adder>().await?;
    let sum = adder.call().add(20, 22).await;
    connection.close().await;
    sum
}

#[test]
fn whatever_python_serves_is_dialled_over_each_medium_without_its_version_being_said() {
    let certificate = Certificate::new();
    runtime().block_on(async {
        for python in Python::all() {
            let (file, key) = (certificate.path("certificate"), certificate.path("key"));
            let tls = Medium::Tls {
                certificate: &file,
                key: &key,
            };
            for medium in [Medium::Tcp, Medium::Unix, tls] {
                let served = python.serve(Offer::Ref, medium);
                let mut address = served.address().clone();
                if let Medium::Tls { .. } = medium {
                    address = certificate.option(address, "ca", "certificate");
                }
                let sum = add(&address).await;
                assert_eq!(
                    sum.unwrap_or_else(|error| panic!("{:?} {address}: {error}", python.version())),
                    42
                );
            }
            let stdio = python.stdio(Offer::Ref);
            assert_eq!(add(&stdio).await.unwrap(), 42, "{stdio}");
        }
    });
}

/// To a port over there, and to a program that ssh starts: neither knows of ssh.
#[test]
fn a_python_on_another_host_is_reached_by_ssh() {
    let (Some(sshd), Some(python)) = (Sshd::start(&[]), Python::of(Version::Six)) else {
        return;
    };
    runtime().block_on(async {
        let served = python.serve(Offer::Ref, Medium::Tcp);
        let Target::Tcp { port, .. } = served.address().target() else {
            panic!("not TCP")
        };
        let stdio = python.stdio(Offer::Ref);
        let Target::Exec { program } = stdio.target() else {
            panic!("no program")
        };
        let arguments = stdio.options().map(|(_, argument)| argument);
        let command: Vec<_> = std::iter::once(program.as_str()).chain(arguments).collect();
        for address in [sshd.tunnel(*port), sshd.address(&command.join(" "))] {
            let address = address.with_dialect(Dialect::Rpyc);
            let sum = add(&address).await;
            assert_eq!(sum.unwrap_or_else(|error| panic!("{address}: {error}")), 42);
        }
    });
}

#[test]
fn what_the_address_says_of_the_generation_is_believed() {
    for (version, right, wrong, told) in [
        (Version::Five, "5", "6", "RPyC 4 or 5"),
        (Version::Six, "6", "5", "RPyC 6"),
    ] {
        let Some(python) = Python::of(version) else {
            continue;
        };
        runtime().block_on(async {
            let served = python.serve(Offer::Ref, Medium::Unix);
            let of = |generation| served.address().clone().with_option("generation", generation);
            assert_eq!(add(&of(right).unwrap()).await.unwrap(), 42);
            let error = add(&of(wrong).unwrap()).await.unwrap_err().to_string();
            assert!(error.contains(&format!("speaks {told}")), "{error}");
        });
    }
}

#[test]
fn a_python_that_binds_threads_is_dialled_if_that_is_said() {
    for python in Python::all() {
        if python.version() == Version::Four {
            continue; // it knows nothing of it
        }
        runtime().block_on(async {
            let served = python.serve(Offer::Bound, Medium::Unix);
            let address = served.address().clone().with_option("bind-threads", "1").unwrap();
            assert_eq!(add(&address).await.unwrap(), 42, "{address}");
        });
    }
}

#[test]
fn a_python_that_is_started_anew_is_found_again_whatever_its_version_is_then() {
    let (Some(five), Some(six)) = (Python::of(Version::Five), Python::of(Version::Six)) else {
        return;
    };
    runtime().block_on(async {
        let served = five.serve(Offer::Ref, Medium::Unix);
        let next = six.serve(Offer::Ref, Medium::Unix);
        let address = served.address().clone();
        let peer = connect(&address)
            .also_at(next.address())
            .reconnecting(Reconnect::default())
            .await
            .unwrap();
        let adder = peer.root::<dyn Adder>().unwrap();
        assert_eq!(adder.call().add(1, 1).await.unwrap(), 2);
        drop(served);
        within(async {
            // The first calls may be lost with the connection.
            while adder.call().add(1, 1).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        peer.close().await;
    });
}

#[test]
fn pythons_of_every_version_find_what_is_served_in_rust() {
    let certificate = Certificate::new();
    runtime().block_on(async {
        let server = Server::of::<dyn Adder>(Own);
        let plain = server.listen("rpyc://127.0.0.1:0").await.unwrap().to_string();
        let secured: Address = "rpyc+ssl://127.0.0.1:0".parse().unwrap();
        let secured = certificate.option(secured, "cert", "certificate");
        let secured = server
            .listen(certificate.option(secured, "key", "key"))
            .await
            .unwrap()
            .to_string();
        let file = certificate.path("certificate");
        for python in Python::all() {
            for arguments in [
                &[plain.as_str()][..],
                &[&secured, "--authority", file.to_str().unwrap()],
            ] {
                let arguments = [arguments, &["--only", "getroot"]].concat();
                let passed = python.run("scenarios.py", &arguments).await;
                assert!(passed.is_ok_and(|passed| passed.contains("ok getroot")));
            }
        }
        server.shutdown(Duration::from_secs(60)).await;
    });
}

/// A registry in Python, until it is dropped.
struct PythonRegistry {
    process: Child,
    port: u16,
}

impl PythonRegistry {
    fn start(python: &Python, over: &str) -> Self {
        let mut process = python
            .command("registry.py")
            .args(["serve", over])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut said).unwrap();
        let port = said.trim().parse().unwrap();
        Self { process, port }
    }
}

impl Drop for PythonRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn client(over: &str, port: u16) -> RegistryClient {
    let client = match over {
        "udp" => RegistryClient::udp("127.0.0.1", port),
        _ => RegistryClient::tcp("127.0.0.1", port),
    };
    client.timeout(Duration::from_secs(60))
}

/// Each end registers with the registry at this port, and each finds both.
async fn both_ends_meet(python: &Python, over: &str, port: u16) {
    let ask = async |command: &str, arguments: &[&str]| {
        let port = port.to_string();
        let arguments = [&[command, over, &port], arguments].concat();
        let said = python.run("registry.py", &arguments).await;
        said.unwrap_or_else(|why| panic!("{why}")).trim().to_owned()
    };
    let rust = client(over, port);
    assert_eq!(ask("register", &["PY", "Both", "1001"]).await, "True");
    let registered = rust.register(["RUST", "both"], 1002).await.unwrap();
    let address = |port: u16| -> Address { format!("rpyc://127.0.0.1:{port}").parse().unwrap() };
    assert_eq!(rust.discover("py").await.unwrap(), [address(1001)]);
    assert_eq!(
        rust.discover("BOTH").await.unwrap(),
        [address(1001), address(1002)]
    );
    assert_eq!(ask("discover", &["rust"]).await, "127.0.0.1:1002");
    assert_eq!(ask("discover", &["BOTH"]).await, "127.0.0.1:1001 127.0.0.1:1002");
    if python.version() != Version::Four {
        let mut listed: Vec<_> = rust.list().await.unwrap().unwrap();
        listed.sort();
        assert_eq!(listed, ["BOTH", "PY", "RUST"]);
        let said = ask("list", &[]).await;
        let mut listed: Vec<_> = said.split(' ').collect();
        listed.sort_unstable();
        assert_eq!(listed, ["BOTH", "PY", "RUST"]);
    }
    registered.end().await;
    assert_eq!(ask("discover", &["rust"]).await, "");
    ask("unregister", &["1001"]).await;
    // Python does not wait until that is done.
    within(async { while !rust.discover("py").await.unwrap().is_empty() {} }).await;
}

#[test]
fn a_registry_in_python_serves_both() {
    for python in Python::all() {
        runtime().block_on(async {
            for over in ["udp", "tcp"] {
                let registry = PythonRegistry::start(&python, over);
                both_ends_meet(&python, over, registry.port).await;
            }
        });
    }
}

#[test]
fn a_registry_in_rust_serves_both() {
    for python in Python::all() {
        runtime().block_on(async {
            let registry = Registry::new().listing();
            let any = "127.0.0.1:0".parse().unwrap();
            let udp = registry.serve_udp(any).await.unwrap();
            let tcp = registry.serve_tcp(any).await.unwrap();
            for (over, serving) in [("udp", &udp), ("tcp", &tcp)] {
                both_ends_meet(&python, over, serving.local_address().port()).await;
            }
        });
    }
}

/// What is announced is dialled by its name alone.
#[test]
fn a_python_is_connected_to_by_the_name_that_it_is_registered_by() {
    use farref::names::Names;

    let Some(python) = Python::of(Version::Six) else {
        return;
    };
    runtime().block_on(async {
        let served = python.serve(Offer::Ref, Medium::Tcp);
        let Target::Tcp { port, .. } = served.address().target() else {
            panic!("not TCP")
        };
        let registry = Registry::new();
        let serving = registry.serve_udp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let client = client("udp", serving.local_address().port());
        let _registered = client.register(["REF"], *port).await.unwrap();
        let connection = connect("ref").names(Names::none().with(client)).await.unwrap();
        let adder = connection.root::<dyn Adder>().await.unwrap();
        assert_eq!(adder.call().add(2, 3).await.unwrap(), 5);
    });
}
