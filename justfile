# What a change must pass, and the usual shortcuts. `just` lists them.

default:
    @just --list

# Format, lints, all tests, benches once: what .ci/run does, on what is built already
check:
    cargo fmt --all --check
    cargo clippy -p fluxrelay -p fluxrelay-peers --all-targets -- -D warnings
    cargo test -p fluxrelay -p fluxrelay-peers
    cargo bench -- --test
    cargo run --release -- bench --tiny
    .ci/deny

# Advisories (those in advisories/), banned crates, licences and sources by cargo-deny, which is built if it is not there
deny:
    .ci/deny

# Replay one seed of the engine against the naive queue, with its steps
sim SEED:
    FLUXRELAY_MODEL_SEED={{SEED}} cargo test --test model -- --nocapture

# Replay one seed of the simulation of the whole core, with its trace
simulation SEED:
    FLUXRELAY_SIM_SEED={{SEED}} cargo test --release --test simulation nothing_that -- --nocapture

# Run SEEDS seeds of it, from FIRST on
simulations SEEDS="100000" FIRST="0":
    FLUXRELAY_SIM_SEEDS={{SEEDS}} FLUXRELAY_SIM_FIRST={{FIRST}} cargo test --release --test simulation nothing_that -- --nocapture

# Check IMAGES images that a loss of power leaves, from seed FIRST on; a million in pieces of 100000
images IMAGES="100000" FIRST="0":
    FLUXRELAY_IMAGES={{IMAGES}} FLUXRELAY_IMAGES_FIRST={{FIRST}} cargo test --release --test crash image -- --nocapture

# Damage every page of every file, one at a time, with bits by SEED
damages SEED="0":
    FLUXRELAY_DAMAGES=all FLUXRELAY_DAMAGES_FIRST={{SEED}} cargo test --release --test corruption -- --nocapture

# Kill the broker CYCLES times under load
kill9 CYCLES="200":
    FLUXRELAY_KILL9_CYCLES={{CYCLES}} cargo test --release --test kill9 -- --nocapture

# Run the fuzz targets (fuzz/README.md), all or those named, for SECONDS each
fuzz SECONDS="20" *TARGETS:
    fuzz/run {{SECONDS}} {{TARGETS}}

# Put faults into a copy of the code, one at a time: each must be caught (tests/mutants/list.toml)
mutants *NAMES:
    tests/mutants/run {{NAMES}}

# Cut the power CYCLES times, fill the disk, let it fail: real file systems in loop devices, so it needs root (Linux only)
power CYCLES="200":
    cargo build --release
    sudo tests/power/run cut --binary target/release/fluxrelay --cycles {{CYCLES}}
    sudo tests/power/run full --binary target/release/fluxrelay --cycles 24
    sudo tests/power/run failing --binary target/release/fluxrelay --cycles 24
    sudo tests/power/run mirror --binary target/release/fluxrelay --cycles 24

# Other queues under the same load generator, in turns with fluxrelay (benches/peers/README.md): all modes, or what is given
peers *ARGS:
    cargo build --release -p fluxrelay -p fluxrelay-peers
    {{ if ARGS == "" { "for mode in throughput latency backlog crash; do target/release/fluxrelay-peers $mode || exit; done" } else { "target/release/fluxrelay-peers " + ARGS } }}

# The figures of benches/README.md
figures:
    cargo bench
    cargo run --release -- bench throughput
    cargo run --release -- bench latency
    cargo run --release -- bench backlog
    cargo run --release -- bench crash
    cargo run --release -- bench idle
    cargo run --release -- bench idle --tls
    cargo run --release -- bench storm
    cargo run --release -- bench storm --forged 1000
    cargo run --release -- bench storm --expired
    cargo run --release -- bench soak

# Curves of fluxrelay and its peers as SVG files in FOLDER
curves FOLDER="benches/curves" *ARGS:
    cargo build --release -p fluxrelay -p fluxrelay-peers
    target/release/fluxrelay-peers plot {{FOLDER}} {{ARGS}}
