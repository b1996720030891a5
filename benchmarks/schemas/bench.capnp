@0xd36c2c5aa3d1f4b2;
# What a server of capnp-rpc is asked to do. generate.rs makes src/contenders/capnp/bench_capnp.rs of it.

interface Bench {
  null @0 () -> ();
  echo @1 (bytes :Data) -> (bytes :Data);
  structs @2 (records :List(Record)) -> (records :List(Record));
  callBack @3 (item :Item, times :UInt32) -> ();
  make @4 () -> (item :Item);
  items @5 (to :Taker, count :UInt64) -> ();
  upload @6 () -> (sink :Sink);
}

interface Item {
  null @0 () -> ();
}

interface Taker {
  take @0 (item :UInt64) -> stream;
}

interface Sink {
  write @0 (bytes :Data) -> stream;
  done @1 () -> (count :UInt64);
}

struct Record {
  id @0 :UInt64;
  name @1 :Text;
  place @2 :Text;
  value @3 :Float64;
}
