//! Python programs, and objects in Rust that they use.

use farref_integration_tests::media::runtime;
use farref_integration_tests::python::{Offer, Python, Version};
use farref_integration_tests::rpyc_service::Serving;

/// What comes out otherwise than with a server in Python, and is to.
const OTHERWISE: [&str; 4] = [
    // Lists and maps are copies that answer whatever Python's own do.
    "container-policy",
    "container-identity",
    // Objects with a trait have one text, and no order; those without one have both (`numbers`).
    "custom-object-more",
    // Nothing here asks whether an object of Python's is an instance of a class of Python's.
    "instancecheck-over-there",
];

async fn drives(python: &Python, serving: &Serving, offer: Offer, but: &[&str]) {
    let left_out = OTHERWISE.iter().chain(but);
    let options: Vec<_> = left_out.flat_map(|name| ["--without", name]).collect();
    let passed = python.scenarios(serving.address(), offer, &options).await;
    passed.unwrap_or_else(|failed| panic!("{failed}"));
}

/// Every scenario, and those of a client that binds threads.
fn a_python_drives_rust(version: Version) {
    let Some(python) = Python::of(version) else { return };
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let serving = Serving::at(&format!("rpyc+unix:{}", path.display())).await;
        drives(&python, &serving, Offer::Ref, &[]).await;
        drives(&python, &serving, Offer::Bound, &[]).await;
    });
}

#[test]
fn version_4_drives_rust() {
    a_python_drives_rust(Version::Four);
}

#[test]
fn version_5_drives_rust() {
    a_python_drives_rust(Version::Five);
}

#[test]
fn version_6_drives_rust() {
    a_python_drives_rust(Version::Six);
}

#[test]
fn a_python_drives_rust_over_tcp() {
    let Some(python) = Python::of(Version::Six) else {
        return;
    };
    runtime().block_on(async {
        let serving = Serving::at("rpyc://127.0.0.1:0").await;
        drives(&python, &serving, Offer::Ref, &["threads"]).await;
    });
}
