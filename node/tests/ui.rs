//! Compile errors are part of the API: what a mistaken handler is told, word for word.
//!
//! After a deliberate change run `TRYBUILD=overwrite cargo test -p evener --test ui`, and read the difference
//! as a newcomer would.

#[test]
fn a_mistake_is_told_what_to_write_instead() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
