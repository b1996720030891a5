//! What `#[shape(..)]` does not take.
extern crate farref_netref as farref;

use farref::Shape;

#[derive(Shape)]
#[shape(opaque, name = "")]
struct NoName;

#[derive(Shape)]
#[shape(opaque, as = "u8")]
struct Both;

#[derive(Shape)]
#[shape(name = "lab.Waveform")]
struct NotOpaque;

#[derive(Shape)]
#[shape(version = 2)]
struct NotOpaqueEither;

#[derive(Shape)]
#[shape(opaque, version = 5000000000)]
struct Late;

#[derive(Shape)]
#[shape(opaque, version = "2")]
struct Text;

#[derive(Shape)]
#[shape(opaque, opaque)]
struct Twice;

#[derive(Shape)]
#[shape(opaque, named = "lab.Waveform")]
struct Unknown;

#[derive(Shape)]
#[shape()]
struct Nothing;

#[derive(Shape)]
#[shape(opaque)]
struct Generic<T>(T);

#[derive(Shape)]
struct Fields {
    #[shape(opaque)]
    unnamed: u8,
}

#[derive(Shape)]
enum Variants {
    #[shape(opaque, name = "lab.Variant")]
    A,
}

/// Only with a derive of its own.
struct Silent;

#[derive(Shape)]
struct Holder {
    silent: Vec<Silent>,
}

fn main() {}
