//! What `#[remote]` does not accept, and what it says: one file per misuse in `ui/`, with the compiler's words beside
//! it. `TRYBUILD=overwrite` writes these anew.

#[test]
fn every_misuse_is_told_at_its_place() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
