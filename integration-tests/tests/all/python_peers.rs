//! The Python peers themselves: what they are, and that the scenarios hold between two of them. Whatever fails
//! with a peer of ours and not here is ours.

use farref_integration_tests::media::runtime;
use farref_integration_tests::python::{Medium, Offer, Python, Version};

#[test]
fn each_python_has_the_rpyc_that_it_is_named_after() {
    for python in Python::all() {
        let said = runtime()
            .block_on(python.run("scenarios.py", &["--version"]))
            .unwrap();
        assert_eq!(said.trim(), python.version().number());
    }
}

/// Most of its time goes into how Python's threads wait for each other.
const BUT: [&str; 2] = ["--without", "threads"];

/// Every scenario, with client and server of one version.
fn a_python_drives_itself(version: Version) {
    let Some(python) = Python::of(version) else { return };
    runtime().block_on(async {
        for offer in Offer::ALL {
            let served = python.serve(offer, Medium::Unix);
            let options = if offer == Offer::Ref { &BUT[..] } else { &[] };
            let passed = python.scenarios(served.address(), offer, options).await;
            passed.unwrap_or_else(|failed| panic!("{failed}"));
        }
    });
}

#[test]
fn version_4_drives_itself() {
    a_python_drives_itself(Version::Four);
}

#[test]
fn version_5_drives_itself() {
    a_python_drives_itself(Version::Five);
}

#[test]
fn version_6_drives_itself() {
    a_python_drives_itself(Version::Six);
}

#[test]
fn versions_4_and_5_drive_each_other() {
    let (Some(four), Some(five)) = (Python::of(Version::Four), Python::of(Version::Five)) else {
        return;
    };
    runtime().block_on(async {
        for (client, server) in [(&four, &five), (&five, &four)] {
            let served = server.serve(Offer::Ref, Medium::Unix);
            let passed = client.scenarios(served.address(), Offer::Ref, &BUT).await;
            passed.unwrap_or_else(|failed| panic!("{failed}"));
        }
    });
}
