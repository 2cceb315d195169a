//! A broker with a mirror, over starts, damage and loss: what was acknowledged is there as long as one good copy of each file
//! is, and a copy that may be old is never used.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fluxrelay::broker::{self, DEFAULT_STORE, Running, Settings};
use fluxrelay::credentials::HashCost;
use fluxrelay::ids::{OrderId, ServerId};
use fluxrelay::storage::StorageError;
use fluxrelay::storage::mirror::{MIRRORED_FILES, Mirror};
use fluxrelay::time::{Millis, UnixMs};

use inside::{order, server};

#[path = "mirror/binary.rs"]
mod binary;
#[path = "mirror/formats.rs"]
mod formats;
#[path = "support/inside.rs"]
mod inside;

/// A data directory and its mirror.
struct Dirs {
    folder: tempfile::TempDir,
    data: PathBuf,
    mirror: PathBuf,
}

impl Dirs {
    fn new() -> Dirs {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, mirror) = (folder.path().join("data"), folder.path().join("mirror"));
        Dirs { folder, data, mirror }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> Result<Running, StorageError> {
        start(&self.data, Some(&self.mirror))
    }

    fn start_alone(&self) -> Running {
        start(&self.data, None).expect("it starts without a mirror")
    }
}

fn start(data: &Path, mirror: Option<&Path>) -> Result<Running, StorageError> {
    broker::start(Settings {
        mirror: mirror.map(|dir| Mirror::look(data, dir)).transpose()?,
        checkpoint_every: Millis::seconds(3600),
        hash_cost: HashCost::TINY,
        ..Settings::new(data.to_owned())
    })
}

async fn publish(running: &Running, server: ServerId, text: &str) -> OrderId {
    let published = running.handle().publish(DEFAULT_STORE, order(server, text)).await;
    published.expect("it is accepted").order
}

async fn has(running: &Running, order: OrderId) -> bool {
    running.handle().order(order).await.is_ok()
}

/// The files of a directory, directories in it apart.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    paths.filter(|path| path.is_file()).map(|path| (name(&path), fs::read(&path).expect("a file"))).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).expect("a copy");
    }
}

/// Every page in use but the first is overwritten.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).expect("a file");
    let used: Vec<usize> = (0..bytes.len() / 4096)
        .filter(|page| bytes[page * 4096..][..4096].iter().any(|byte| *byte != 0))
        .collect();
    for page in &used[1..] {
        bytes[page * 4096..][..4096].fill(0xa5);
    }
    fs::write(file, bytes).expect("it is written");
}

fn in_step(running: &Running) -> bool {
    running.handle().mirror_in_step().expect("there is a mirror")
}

/// Once it is idle or closed, a journal is the same on both sides; before, the durable mark of the last commit waits for
/// the next sync of the mirror.
fn assert_same_commits(dirs: &Dirs) {
    let (mut data, mut mirror) = (files(&dirs.data), files(&dirs.mirror));
    let [journal, others @ ..] = MIRRORED_FILES;
    for side in [&mut data, &mut mirror] {
        side.get_mut(journal).expect("a journal")[512..1024].fill(0);
    }
    for name in others.into_iter().chain([journal]) {
        assert!(data[name] == mirror[name], "{name} differs");
    }
}

fn assert_same(dirs: &Dirs) {
    let (data, mirror) = (files(&dirs.data), files(&dirs.mirror));
    for name in MIRRORED_FILES.into_iter().chain(["secret.key", "admin.key", "tickets.key"]) {
        assert!(data[name] == mirror[name], "{name} differs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directories_hold_everything_and_either_is_enough() {
    let dirs = Dirs::new();
    let running = dirs.start().expect("it starts");
    assert!(in_step(&running));
    let server = server(&running, "another").await;
    let first = publish(&running, server, "say one").await;
    assert_same_commits(&dirs);
    let second = publish(&running, server, "say two").await;
    // As a kill leaves them.
    let killed = [dirs.at("killed-data"), dirs.at("killed-mirror")];
    copy(&dirs.data, &killed[0]);
    copy(&dirs.mirror, &killed[1]);
    running.stop().await.expect("it stops");
    assert_same(&dirs);

    for alone in &killed {
        let running = start(alone, None).expect("each is a data directory");
        assert!(has(&running, first).await && has(&running, second).await);
        assert_eq!(running.handle().mirror_in_step(), None);
        running.stop().await.expect("it stops");
    }
    for lost in [&dirs.data, &dirs.mirror] {
        fs::remove_dir_all(lost).expect("it is ours");
        let running = dirs.start().expect("the other one is enough");
        assert!(in_step(&running));
        assert!(has(&running, first).await && has(&running, second).await);
        running.stop().await.expect("it stops");
        assert_same(&dirs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_replaced_and_kept_under_another_name() {
    let dirs = Dirs::new();
    let running = dirs.start().expect("it starts");
    let server = server(&running, "another").await;
    let mut orders = vec![publish(&running, server, "say one").await];
    running.stop().await.expect("it stops");
    for (number, name) in (1..).zip(MIRRORED_FILES) {
        damage(&dirs.data.join(name));
        let damaged = fs::read(dirs.data.join(name)).expect("a file");
        let running = dirs.start().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(in_step(&running));
        orders.push(publish(&running, server, &format!("say {number}")).await);
        for order in &orders {
            assert!(has(&running, *order).await, "{name}: {order} is lost");
        }
        running.stop().await.expect("it stops");
        let kept = fs::read(dirs.data.join(format!("{name}.damaged-1"))).expect("it is kept");
        assert_eq!(kept.len(), damaged.len());
        assert_same(&dirs);
    }
    for name in MIRRORED_FILES {
        damage(&dirs.mirror.join(name));
    }
    let running = dirs.start().expect("the mirror's damage is mended from the data directory");
    assert!(in_step(&running));
    running.stop().await.expect("it stops");
    assert_same(&dirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn different_files_may_be_damaged_on_the_two_sides_and_the_same_one_is_refused() {
    let dirs = Dirs::new();
    let running = dirs.start().expect("it starts");
    let server = server(&running, "another").await;
    let order = publish(&running, server, "say one").await;
    running.stop().await.expect("it stops");
    let [journal, store, registry] = MIRRORED_FILES;
    damage(&dirs.data.join(journal));
    fs::remove_file(dirs.data.join(registry)).expect("it is ours");
    damage(&dirs.mirror.join(store));
    let running = dirs.start().expect("each file has a good copy");
    assert!(has(&running, order).await && in_step(&running));
    running.stop().await.expect("it stops");
    assert_same(&dirs);

    damage(&dirs.data.join(store));
    let before = fs::read(dirs.data.join(store)).expect("a file");
    let mut other = before.clone();
    let end = other.len() - 1;
    other[end] ^= 1;
    fs::write(dirs.mirror.join(store), other).expect("it is written");
    let text = dirs.start().err().expect("there is no good copy").to_string();
    assert!(text.contains(&*dirs.data.join(store).to_string_lossy()), "{text}");
    assert!(text.contains(&*dirs.mirror.join(store).to_string_lossy()), "{text}");
    assert!(dirs.data.join(store).exists() && fs::read(dirs.data.join(store)).unwrap().len() == before.len());
}

/// As after a crash between the two syncs of a commit, or on a disk that lost its end.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_that_recovers_further_is_taken_from_whichever_side() {
    let dirs = Dirs::new();
    let running = dirs.start().expect("it starts");
    let server = server(&running, "another").await;
    let first = publish(&running, server, "say one").await;
    let [journal, ..] = MIRRORED_FILES;
    let earlier = fs::read(dirs.data.join(journal)).expect("a file");
    let second = publish(&running, server, "say two").await;
    let killed = Dirs::new();
    copy(&dirs.data, &killed.data);
    copy(&dirs.mirror, &killed.mirror);
    running.stop().await.expect("it stops");
    for data_is_behind in [true, false] {
        let dirs = Dirs::new();
        copy(&killed.data, &dirs.data);
        copy(&killed.mirror, &dirs.mirror);
        let behind = if data_is_behind { &dirs.data } else { &dirs.mirror };
        fs::write(behind.join(journal), &earlier).expect("it is written");
        let running = dirs.start().expect("both are sound");
        assert!(has(&running, first).await);
        assert!(
            has(&running, second).await,
            "what one side has is lost; the data directory's ends earlier: {data_is_behind}"
        );
        assert!(in_step(&running));
        running.stop().await.expect("it stops");
        assert_same(&dirs);
        let kept = fs::read(dirs.data.join(format!("{journal}.damaged-1")));
        assert_eq!(kept.ok().as_ref(), data_is_behind.then_some(&earlier), "what was replaced is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_may_be_old_is_never_used() {
    let dirs = Dirs::new();
    let running = dirs.start().expect("it starts");
    let server = server(&running, "another").await;
    running.stop().await.expect("it stops");
    let running = dirs.start_alone();
    let newer = publish(&running, server, "say newer").await;
    running.stop().await.expect("it stops");

    let (sound, mirror) = (files(&dirs.data), files(&dirs.mirror));
    let [journal, store, _] = MIRRORED_FILES;
    for gone in [false, true] {
        match gone {
            true => fs::remove_file(dirs.data.join(store)).expect("it is ours"),
            false => damage(&dirs.data.join(journal)),
        }
        let error = dirs.start().err().expect("nothing can stand in for it");
        assert!(error.to_string().contains(if gone { store } else { journal }), "{error}");
        assert!(files(&dirs.mirror) == mirror, "the mirror is as it was");
        for (name, bytes) in &sound {
            fs::write(dirs.data.join(name), bytes).expect("it is written");
        }
    }
    let running = dirs.start().expect("the data directory is sound");
    assert!(in_step(&running) && has(&running, newer).await);
    running.stop().await.expect("it stops");
    assert_same(&dirs);
    damage(&dirs.data.join(journal));
    let running = dirs.start().expect("now it stands in");
    assert!(has(&running, newer).await);
    running.stop().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_admin_key_is_a_change_that_the_mirror_lacks() {
    let dirs = Dirs::new();
    dirs.start().expect("it starts").stop().await.expect("it stops");
    let [.., registry] = MIRRORED_FILES;
    broker::reset_admin_key(&dirs.data, HashCost::TINY, UnixMs(1_800_000_000_000)).expect("it is reset");
    let changed = fs::read(dirs.data.join(registry)).expect("a file");
    damage(&dirs.data.join(registry));
    assert!(dirs.start().is_err(), "the mirror's registry has the old key");
    fs::write(dirs.data.join(registry), changed).expect("it is written");
    dirs.start().expect("it starts").stop().await.expect("it stops");
    assert_same(&dirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_pair_is_refused_and_left_as_it_is() {
    let (dirs, others) = (Dirs::new(), Dirs::new());
    for each in [&dirs, &others] {
        each.start().expect("it starts").stop().await.expect("it stops");
    }
    fs::create_dir_all(dirs.at("full")).expect("a directory");
    fs::write(dirs.at("full/letter.txt"), "dear").expect("it is written");
    fs::write(dirs.at("file"), "no directory").expect("it is written");
    let new = dirs.at("new");
    for (data, mirror, word) in [
        (&dirs.data, &others.mirror, "another data directory"),
        (&dirs.data, &others.data, "is a data directory"),
        (&dirs.mirror, &dirs.data, "is a mirror itself"),
        (&dirs.data, &dirs.data, "the data directory itself"),
        (&dirs.data, &dirs.data.join("mirror"), "within the other"),
        (&dirs.data, &dirs.at("full"), "not empty"),
        (&new, &dirs.at("file"), "cannot make"),
    ] {
        let before = files(&others.mirror);
        let error = start(data, Some(mirror)).err().unwrap_or_else(|| panic!("{word}: it starts"));
        assert!(matches!(error, StorageError::Mirror { .. }), "{word}: {error:?}");
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert!(files(&others.mirror) == before);
    }
    // One that was started on by itself has a life of its own since.
    let running = start(&dirs.mirror, None).expect("it is whole");
    server(&running, "another").await;
    running.stop().await.expect("it stops");
    let error = dirs.start().err().expect("it would be overwritten").to_string();
    assert!(error.contains("if it is the newer one"), "{error}");
    // The way back: the newer one as data directory, the other one emptied.
    fs::remove_dir_all(&dirs.data).expect("it is ours");
    let running = start(&dirs.mirror, Some(&dirs.data)).expect("a pair again");
    assert!(in_step(&running) && running.handle().registry().servers(None).len() == 1);
    running.stop().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_opens_what_a_pair_uses() {
    let dirs = Dirs::new();
    let running = dirs.start().expect("it starts");
    let in_use = |started: Result<Running, StorageError>| {
        assert!(matches!(started.err(), Some(StorageError::InUse { .. })), "it is in use");
    };
    in_use(dirs.start());
    in_use(start(&dirs.data, None));
    in_use(start(&dirs.mirror, None));
    in_use(start(&dirs.at("new"), Some(&dirs.mirror)));
    let checked = broker::check(&dirs.mirror, &mut fluxrelay::storage::Unwatched);
    assert!(matches!(checked, Err(StorageError::InUse { .. })), "{checked:?}");
    running.stop().await.expect("it stops");
    let checked =
        broker::check(&dirs.mirror, &mut fluxrelay::storage::Unwatched).expect("nobody has it open");
    assert!(checked.findings.is_empty(), "{:?}", checked.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_not_there_stops_nothing_and_is_made_anew() {
    let dirs = Dirs::new();
    dirs.start().expect("it starts").stop().await.expect("it stops");
    fs::rename(&dirs.mirror, dirs.at("unplugged")).expect("it is ours");
    fs::write(&dirs.mirror, "in the way").expect("it is written");
    let running = dirs.start().expect("one copy is enough to go on");
    assert!(!in_step(&running));
    let server = server(&running, "another").await;
    let order = publish(&running, server, "say one").await;
    running.stop().await.expect("it stops");

    fs::remove_file(&dirs.mirror).expect("it is ours");
    fs::rename(dirs.at("unplugged"), &dirs.mirror).expect("it is ours");
    let running = dirs.start().expect("it starts");
    assert!(in_step(&running) && has(&running, order).await);
    running.stop().await.expect("it stops");
    assert_same(&dirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_put_back_but_for_an_admin_key_that_was_removed() {
    let dirs = Dirs::new();
    dirs.start().expect("it starts").stop().await.expect("it stops");
    let sound = files(&dirs.data);
    for name in ["secret.key", "tickets.key", "admin.key"] {
        let mut bytes = sound[name].clone();
        bytes[3] ^= 1;
        fs::write(dirs.data.join(name), bytes).expect("it is written");
        dirs.start().unwrap_or_else(|error| panic!("{name}: {error}")).stop().await.expect("it stops");
        assert!(files(&dirs.data)[name] == sound[name], "{name} is what it was");
        assert_same(&dirs);
    }
    fs::remove_file(dirs.data.join("secret.key")).expect("it is ours");
    fs::remove_file(dirs.mirror.join("tickets.key")).expect("it is ours");
    dirs.start().expect("it starts").stop().await.expect("it stops");
    assert_same(&dirs);
    fs::remove_file(dirs.data.join("admin.key")).expect("it is ours");
    dirs.start().expect("it starts").stop().await.expect("it stops");
    assert!(!dirs.data.join("admin.key").exists() && !dirs.mirror.join("admin.key").exists());
}
