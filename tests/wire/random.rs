//! Random frames of every kind read back as they were, one by one and several in a message; random bytes never panic.

use bytes::BytesMut;
use fluxrelay::limits::{
    FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_LOGIN, HELLO_IDS_MAX, RESULTS_MAX, WINDOW_MAX,
};
use fluxrelay::protocol::{
    Code, CommandEvent, CommandRef, Credential, DeliveryRef, EventPlace, EventRef, Flaw, Item, List,
    OrderHead, Outcome, PlayerRef, PlayersKind, PluginHello, PluginWelcome, Publish, PublishCommand,
    PublisherHello, PublisherWelcome, Request, Response, ResultRef, Status, TicketRef, What, encode_deliver,
    encode_publish, encode_published, encode_results,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::check_frame::check_frame;

/// Frames borrow; what these tests make lives until the test process ends.
fn keep<T>(values: Vec<T>) -> &'static [T] {
    values.leak()
}

fn list<T: Item<'static> + 'static>(
    item: impl Strategy<Value = T>,
) -> impl Strategy<Value = List<'static, T>> {
    vec(item, 0..6).prop_map(|values| List::from(keep(values)))
}

fn text() -> impl Strategy<Value = &'static str> {
    prop_oneof!["", "[a-z ]{1,40}", "\\PC{0,40}", Just("x".repeat(4096))].prop_map(|text| &*text.leak())
}

fn player() -> impl Strategy<Value = PlayerRef<'static>> {
    ("[A-Za-z0-9_.]{1,64}", any::<Option<u128>>())
        .prop_map(|(name, uuid)| PlayerRef { name: name.leak(), uuid })
}

fn credential() -> impl Strategy<Value = Credential<'static>> {
    prop_oneof![
        Just(Credential::None),
        text().prop_map(Credential::Token),
        any::<Vec<u8>>().prop_map(|ticket| Credential::Ticket(ticket.leak())),
        (any::<Vec<u8>>(), text())
            .prop_map(|(ticket, token)| Credential::TicketAndToken { ticket: ticket.leak(), token }),
    ]
}

fn place() -> impl Strategy<Value = EventPlace> {
    any::<(u32, u64)>().prop_map(|(boot, ordinal)| EventPlace { boot, ordinal })
}

fn result() -> impl Strategy<Value = ResultRef<'static>> {
    (any::<u64>(), 1..=u16::MAX, select(Outcome::ALL), option::of(text()), option::of(text()))
        .prop_map(|(id, attempt, outcome, error, output)| ResultRef { id, attempt, outcome, error, output })
}

fn delivery() -> impl Strategy<Value = DeliveryRef<'static>> {
    (any::<(u64, u16, bool, bool)>(), text(), option::of(player())).prop_map(
        |((id, attempt, require_online, rerun), text, player)| DeliveryRef {
            id,
            attempt,
            require_online,
            rerun,
            text,
            player,
        },
    )
}

fn order() -> impl Strategy<Value = OrderHead<'static>> {
    (option::of(text()), option::of(text()), option::of(player()), any::<bool>())
        .prop_map(|(key, reference, player, ordered)| OrderHead { key, reference, player, ordered })
}

fn command() -> impl Strategy<Value = PublishCommand<'static>> {
    let numbers = any::<(u32, bool, bool, Option<u64>, Option<u64>, Option<u64>)>();
    (numbers, text(), option::of(player()), option::of(text()), option::of(text())).prop_map(
        |(
            (server, require_online, rerun, delay_ms, not_before, expires_at),
            text,
            player,
            stage,
            metadata,
        )| {
            PublishCommand {
                server,
                text,
                player,
                require_online,
                rerun,
                delay_ms,
                not_before,
                expires_at,
                stage,
                metadata,
            }
        },
    )
}

fn plugin_hello() -> impl Strategy<Value = PluginHello<'static>> {
    let ids = || list(any::<u64>());
    let lists = (ids(), ids(), ids(), ids(), option::of(list(player())));
    (any::<(u16, u16, u32, [u8; 16])>(), 0..=WINDOW_MAX, credential(), lists).prop_map(
        |((version_min, version_max, capabilities, instance), window, credential, lists)| {
            let (held, started, finished, in_doubt, players) = lists;
            PluginHello {
                version_min,
                version_max,
                capabilities,
                instance,
                window,
                credential,
                held,
                started,
                finished,
                in_doubt,
                players,
            }
        },
    )
}

fn request() -> impl Strategy<Value = Request<'static>> {
    let results = vec(result(), 1..6).prop_map(|results| List::from(keep(results)));
    let publisher_hello = (any::<(u16, u16, u32)>(), credential()).prop_map(
        |((version_min, version_max, capabilities), credential)| PublisherHello {
            version_min,
            version_max,
            capabilities,
            credential,
        },
    );
    prop_oneof![
        plugin_hello().prop_map(Request::PluginHello),
        publisher_hello.prop_map(Request::PublisherHello),
        (0..=WINDOW_MAX).prop_map(|window| Request::Credit { window }),
        list(any::<u64>()).prop_map(|ids| Request::Started { ids }),
        (any::<u64>(), results).prop_map(|(batch, results)| Request::Results { batch, results }),
        (select(PlayersKind::ALL), list(player()))
            .prop_map(|(kind, players)| Request::Players { kind, players }),
        (any::<u64>(), order(), list(command()))
            .prop_map(|(request, order, commands)| Request::Publish(Publish { request, order, commands })),
        option::of(place()).prop_map(|after| Request::Subscribe { after }),
        any::<u64>().prop_map(|nonce| Request::Ping { nonce }),
        any::<u64>().prop_map(|nonce| Request::Pong { nonce }),
    ]
}

fn command_ref() -> impl Strategy<Value = CommandRef> {
    any::<(u32, u64)>().prop_map(|(server, seq)| CommandRef { server, seq })
}

fn event() -> impl Strategy<Value = EventRef<'static>> {
    let command = (any::<(u64, u64, u16, u8)>(), select(Status::ALL), option::of(text())).prop_map(
        |((seq, order, attempt, note), status, error)| {
            What::Command(CommandEvent { seq, order, status, attempt, note, error })
        },
    );
    (place(), any::<(u64, u32)>(), prop_oneof![Just(What::Online), Just(What::Offline), command])
        .prop_map(|(place, (at, server), what)| EventRef { place, at, server, what })
}

fn welcome() -> impl Strategy<Value = Response<'static>> {
    let plugin = (any::<(u16, u32, u64, u32, u32, u32, u32, Vec<u8>)>(), list(any::<u64>())).prop_map(
        |(numbers, forget)| {
            let (
                version,
                capabilities,
                epoch,
                heartbeat_ms,
                ack_deadline_ms,
                frame_bytes_max,
                window_max,
                ticket,
            ) = numbers;
            let ticket = TicketRef(keep(ticket));
            Response::PluginWelcome(PluginWelcome {
                version,
                capabilities,
                epoch,
                heartbeat_ms,
                ack_deadline_ms,
                frame_bytes_max,
                window_max,
                ticket,
                forget,
            })
        },
    );
    let publisher = any::<(u16, [u32; 5])>().prop_map(|(version, numbers)| {
        let [capabilities, store, heartbeat_ms, frame_bytes_max, publishes_in_flight_max] = numbers;
        Response::PublisherWelcome(PublisherWelcome {
            version,
            capabilities,
            store,
            heartbeat_ms,
            frame_bytes_max,
            publishes_in_flight_max,
        })
    });
    prop_oneof![plugin, publisher]
}

fn response() -> impl Strategy<Value = Response<'static>> {
    prop_oneof![
        welcome(),
        list(delivery()).prop_map(|commands| Response::Deliver { commands }),
        any::<u64>().prop_map(|batch| Response::Confirm { batch }),
        (any::<(u64, u64, bool)>(), list(command_ref())).prop_map(
            |((request, order, replayed), commands)| {
                Response::Published { request, order, replayed, commands }
            }
        ),
        (any::<(u64, u16, u32)>(), text()).prop_map(|((request, code, retry_after_ms), detail)| {
            Response::Refused { request, code, retry_after_ms, detail }
        }),
        event().prop_map(Response::Event),
        place().prop_map(|place| Response::EventsLost { place }),
        any::<u64>().prop_map(|nonce| Response::Ping { nonce }),
        any::<u64>().prop_map(|nonce| Response::Pong { nonce }),
        any::<(u16, u32)>().prop_map(|(code, delay_ms)| Response::GoAway { code, delay_ms }),
        any::<Vec<u8>>().prop_map(|ticket| Response::Ticket { ticket: TicketRef(keep(ticket)) }),
        (any::<(u16, u32)>(), text()).prop_map(|((code, retry_after_ms), detail)| Response::Error {
            code,
            retry_after_ms,
            detail
        }),
    ]
}

proptest! {
    #[test]
    fn requests_read_back(requests in vec(request(), 1..4)) {
        let mut message = BytesMut::new();
        requests.iter().for_each(|request| request.encode(&mut message).unwrap());
        let back: Vec<Request<'_>> =
            Request::decode_all(&message, FRAME_BYTES_MAX).map(Result::unwrap).collect();
        prop_assert_eq!(back, requests);
        check_frame(&message);
    }

    #[test]
    fn responses_read_back(responses in vec(response(), 1..4)) {
        let mut message = BytesMut::new();
        responses.iter().for_each(|response| response.encode(&mut message).unwrap());
        let back: Vec<Response<'_>> =
            Response::decode_all(&message, FRAME_BYTES_MAX).map(Result::unwrap).collect();
        prop_assert_eq!(back, responses);
        check_frame(&message);
    }

    #[test]
    fn the_hot_paths_write_the_same_bytes(
        deliveries in vec(delivery(), 1..6),
        results in vec(result(), 1..6),
        (head, commands) in (order(), vec(command(), 1..6)),
        accepted in vec(command_ref(), 0..6),
    ) {
        let (mut fast, mut plain) = (BytesMut::new(), BytesMut::new());
        prop_assert_eq!(encode_deliver(&mut fast, deliveries.iter().copied()), Ok(deliveries.len()));
        Response::Deliver { commands: List::from(&deliveries) }.encode(&mut plain).unwrap();
        prop_assert_eq!(encode_results(&mut fast, 7, results.iter().copied()), Ok(results.len()));
        Request::Results { batch: 7, results: List::from(&results) }.encode(&mut plain).unwrap();
        encode_publish(&mut fast, 8, &head, commands.iter().copied()).unwrap();
        let publish = Publish { request: 8, order: head, commands: List::from(&commands) };
        Request::Publish(publish).encode(&mut plain).unwrap();
        encode_published(&mut fast, 8, 9, true, accepted.iter().copied()).unwrap();
        let published = Response::Published { request: 8, order: 9, replayed: true, commands: List::from(&accepted) };
        published.encode(&mut plain).unwrap();
        prop_assert_eq!(fast, plain);
    }

    #[test]
    fn random_payloads_never_panic(kind: u8, payload in vec(any::<u8>(), 0..200)) {
        let mut frame = vec![kind, payload.len() as u8, 0, 0];
        frame.extend(payload);
        check_frame(&frame);
        frame[0] = kind % 0x12;
        check_frame(&frame);
        frame[0] = 0x41 + kind % 10;
        check_frame(&frame);
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        check_frame(&bytes);
    }
}

#[test]
fn results_are_split_where_a_frame_is_full() {
    let text = "x".repeat(4096);
    let result = ResultRef { id: 1, attempt: 1, outcome: Outcome::Failed, error: None, output: Some(&text) };
    let all = vec![result; RESULTS_MAX];
    let (mut sent, mut buf) = (0, BytesMut::new());
    let mut frames = 0;
    while sent < all.len() {
        let before = buf.len();
        let count = encode_results(&mut buf, frames + 1, all[sent..].iter().copied()).unwrap();
        assert!(count > 0 && buf.len() - before <= FRAME_BYTES_MAX);
        (sent, frames) = (sent + count, frames + 1);
    }
    assert_eq!(frames, 5, "1,024 results of 4,110 bytes over frames of 1 MiB");
    let counts = Request::decode_all(&buf, FRAME_BYTES_MAX).map(|frame| match frame.unwrap() {
        Request::Results { results, .. } => results.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(counts.sum::<usize>(), RESULTS_MAX);
}

#[test]
fn what_does_not_fit_leaves_the_buffer_as_it_was() {
    let mut buf = BytesMut::from(&b"before"[..]);
    let long = "x".repeat(65_536);
    let error = Response::Error { code: 8, retry_after_ms: 0, detail: &long }.encode(&mut buf).unwrap_err();
    assert_eq!(error.to_string(), "detail has size 65536, at most 65535 fits in a frame");
    let text = "x".repeat(4096);
    let command = PublishCommand { server: 1, text: &text, ..Default::default() };
    let error =
        encode_publish(&mut buf, 1, &OrderHead::default(), vec![command; 300].into_iter()).unwrap_err();
    assert_eq!(error.field, "frame");
    let delivery =
        DeliveryRef { id: 1, attempt: 1, require_online: false, rerun: false, text: &long, player: None };
    assert!(encode_deliver(&mut buf, [delivery]).is_err());
    assert_eq!(&buf[..], b"before");
}

#[test]
fn ranges_are_checked_when_a_frame_is_decoded() {
    let refused = |request: Request<'_>| {
        let mut buf = BytesMut::new();
        request.encode(&mut buf).unwrap();
        let error = Request::decode(&buf, FRAME_BYTES_MAX).unwrap_err();
        assert_eq!(error.code(), Code::InvalidFrameField, "{error}");
        error.field
    };
    let ids = vec![1; HELLO_IDS_MAX + 1];
    let result = ResultRef { id: 1, attempt: 1, outcome: Outcome::Completed, error: None, output: None };
    let long = "x".repeat(65);
    let name = |name| PlayerRef { name, uuid: None };
    assert_eq!(refused(Request::Credit { window: WINDOW_MAX + 1 }), "window");
    assert_eq!(refused(Request::Started { ids: List::from(&ids) }), "ids");
    let held = PluginHello { held: List::from(&ids), ..Default::default() };
    assert_eq!(refused(Request::PluginHello(held)), "held");
    assert_eq!(refused(Request::Results { batch: 1, results: List::default() }), "results");
    let many = vec![result; RESULTS_MAX + 1];
    assert_eq!(refused(Request::Results { batch: 1, results: List::from(&many) }), "results");
    let zeroth = [ResultRef { attempt: 0, ..result }];
    assert_eq!(refused(Request::Results { batch: 1, results: List::from(&zeroth) }), "attempt");
    for players in [[name("")], [name(&long)]] {
        let players = List::from(&players);
        assert_eq!(refused(Request::Players { kind: PlayersKind::Online, players }), "player.name");
    }
    let everybody = vec![name("Steve"); 10_001];
    let players = List::from(&everybody);
    assert_eq!(refused(Request::Players { kind: PlayersKind::Joined, players }), "players");
}

#[test]
fn a_frame_over_the_limit_is_refused_from_its_header() {
    let header = [0x01, 0xfd, 0x0f, 0x00];
    let error = Request::decode(&header, FRAME_BYTES_MAX_BEFORE_LOGIN).unwrap_err();
    assert_eq!(error.flaw, Flaw::TooLarge { bytes: 4097, max: 4096 });
    assert_eq!(error.code(), Code::FrameTooLarge);
    assert_eq!(Request::decode(&[0x01, 0xfc, 0x0f, 0x00], FRAME_BYTES_MAX_BEFORE_LOGIN), Ok(None));
    let whole = [0x10, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 8];
    let frames: Vec<_> = Request::decode_all(&whole, 100).collect();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0], Ok(Request::Ping { nonce: 0 }));
    assert_eq!(frames[1].unwrap_err().flaw, Flaw::Incomplete);
}

#[test]
fn a_credential_is_never_shown() {
    let hello = PluginHello { credential: Credential::Token("srv_1.verysecret"), ..Default::default() };
    assert!(!format!("{hello:?}").contains("verysecret"));
}
