//! A mirror beside directories of every format: one that is given late, one of a directory that is upgraded on the way, and
//! a pair that a newer program wrote.

use std::fs;
use std::path::{Path, PathBuf};

use fluxrelay::storage::mirror::MIRRORED_FILES;
use fluxrelay::storage::{RecoveryReport, StorageError};
use twox_hash::XxHash3_64;

use super::{Dirs, assert_same, copy, damage, files, has, in_step, publish, server, start};

const OLD_JOURNAL: &str = "journal.redb";
const JOURNAL: &str = MIRRORED_FILES[0];
const STORE: &str = MIRRORED_FILES[1];
const REGISTRY: &str = MIRRORED_FILES[2];

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"))
}

fn found(report: &RecoveryReport) -> (u64, u64) {
    (report.frames, report.live)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_given_late_is_made_of_a_directory_of_any_format() {
    for format in [1, 2, 3] {
        let (dirs, alone) = (Dirs::new(), Dirs::new());
        copy(&fixture(format), &dirs.data);
        copy(&fixture(format), &alone.data);
        let running = alone.start_alone();
        let expected = found(running.recovery());
        assert!(expected.0 > 0, "there is something in its journal");
        let servers = running.handle().registry().servers(None).len();
        running.stop().await.expect("it stops");

        let running = dirs.start().unwrap_or_else(|error| panic!("format {format}: {error}"));
        assert!(in_step(&running));
        assert_eq!(found(running.recovery()), expected);
        let server = server(&running, "another").await;
        let order = publish(&running, server, "say one").await;
        running.stop().await.expect("it stops");
        assert_same(&dirs);
        assert!(!dirs.data.join(OLD_JOURNAL).exists() && !dirs.mirror.join(OLD_JOURNAL).exists());

        damage(&dirs.data.join(JOURNAL));
        fs::remove_file(dirs.data.join(STORE)).expect("it is ours");
        let running = dirs.start().expect("the mirror stands in");
        assert!(has(&running, order).await && in_step(&running));
        running.stop().await.expect("it stops");
        fs::remove_dir_all(&dirs.data).expect("it is ours");
        let running = dirs.start().expect("the mirror is enough");
        assert!(has(&running, order).await);
        assert_eq!(running.handle().registry().servers(None).len(), servers + 1);
        running.stop().await.expect("it stops");
        assert_same(&dirs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_journal_beside_a_pair_goes_when_the_log_counts_and_is_upgraded_when_there_is_none() {
    let dirs = Dirs::new();
    copy(&fixture(1), &dirs.data);
    let running = dirs.start().expect("it starts");
    let expected = running.handle().registry().servers(None).len();
    let server = server(&running, "another").await;
    let order = publish(&running, server, "say one").await;
    running.stop().await.expect("it stops");

    // An upgrade that was cut short at its end.
    fs::copy(fixture(1).join(OLD_JOURNAL), dirs.data.join(OLD_JOURNAL)).expect("a copy");
    let running = dirs.start().expect("it goes on with it");
    assert!(has(&running, order).await && in_step(&running));
    running.stop().await.expect("it stops");
    assert!(!dirs.data.join(OLD_JOURNAL).exists());
    assert_same(&dirs);

    // Files of format 1 that somebody put back, once the mirror was told that it is stale.
    dirs.start_alone().stop().await.expect("it stops");
    fs::remove_file(dirs.data.join(JOURNAL)).expect("it is ours");
    for name in [OLD_JOURNAL, STORE, REGISTRY] {
        fs::copy(fixture(1).join(name), dirs.data.join(name)).expect("a copy");
    }
    let running = dirs.start().expect("its journal is not missing: it is to be upgraded");
    assert!(in_step(&running) && !has(&running, order).await);
    assert_eq!(running.handle().registry().servers(None).len(), expected);
    running.stop().await.expect("it stops");
    assert_same(&dirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_program_wrote_is_refused_on_either_side_and_left_as_it_is() {
    let dirs = Dirs::new();
    dirs.start().expect("it starts").stop().await.expect("it stops");
    let mut newer = fs::read(dirs.data.join(JOURNAL)).expect("a file");
    newer[16] += 1;
    let checksum = XxHash3_64::oneshot_with_seed(0, &newer[8..512]);
    newer[..8].copy_from_slice(&checksum.to_le_bytes());
    for side in [&dirs.data, &dirs.mirror] {
        fs::write(side.join(JOURNAL), &newer).expect("it is written");
    }
    let refused = |error: Option<StorageError>| {
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("use a newer fluxrelay") && text.contains(JOURNAL), "{text}");
    };
    refused(dirs.start().err());
    for side in [&dirs.data, &dirs.mirror] {
        assert!(files(side)[JOURNAL] == newer, "it is as it was");
    }
    // Nor with a damaged file beside it, nor on the mirror alone.
    damage(&dirs.data.join(STORE));
    refused(dirs.start().err());
    refused(start(&dirs.mirror, None).err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_format_1_is_no_mirror() {
    let dirs = Dirs::new();
    copy(&fixture(1), &dirs.mirror);
    let before = files(&dirs.mirror);
    let error = dirs.start().err().expect("somebody needs what is in it").to_string();
    assert!(error.contains("it is not empty and is no mirror: name an empty directory"), "{error}");
    assert!(files(&dirs.mirror) == before);
}
