extern crate farref_netref as farref;

use farref::remote;

#[remote(len)]
trait Counted {}

#[remote]
trait Bench {}

struct Known;

#[remote(str, str)]
impl Bench for Known {}

struct Odd;

#[remote(display)]
impl Bench for Odd {}

struct Bare;

#[remote(str, eq, hash, index, iter, copy)]
impl Bench for Bare {}

struct ByName;

#[remote(index(&str))]
impl Bench for ByName {}

fn main() {}
