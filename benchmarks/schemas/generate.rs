//! From schemas to Rust, beside the contenders that use it. Needs `capnp` with its standard schemas (Debian: `capnproto`,
//! `libcapnp-dev`) and `protoc` (`protobuf-compiler`).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let schemas = env!("CARGO_MANIFEST_DIR");
    let contenders = format!("{schemas}/../src/contenders");
    capnpc::CompilerCommand::new()
        .src_prefix(schemas)
        .file(format!("{schemas}/bench.capnp"))
        .default_parent_module(["contenders", "capnp"].map(str::to_owned).to_vec())
        .output_path(format!("{contenders}/capnp"))
        .run()?;
    tonic_prost_build::configure()
        .bytes(".")
        .out_dir(format!("{contenders}/tonic"))
        .compile_protos(&[format!("{schemas}/bench.proto")], &[schemas.to_owned()])?;
    Ok(())
}
