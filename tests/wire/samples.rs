//! One value of each frame as protocol.md shows it, and variants of them with everything set. Never changes: the bytes
//! that belong to these values are the contract.

use fluxrelay::protocol::{
    CommandEvent, CommandRef, Credential, DeliveryRef, EventPlace, EventRef, List, OrderHead, Outcome,
    PlayerRef, PlayersKind, PluginHello, PluginWelcome, Publish, PublishCommand, PublisherHello,
    PublisherWelcome, Request, Response, ResultRef, Status, TicketRef, What,
};

/// A frame of either direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Frame<'a> {
    /// To the broker.
    Request(Request<'a>),
    /// From the broker.
    Response(Response<'a>),
}

impl<'a> From<Request<'a>> for Frame<'a> {
    fn from(request: Request<'a>) -> Self {
        Frame::Request(request)
    }
}

impl<'a> From<Response<'a>> for Frame<'a> {
    fn from(response: Response<'a>) -> Self {
        Frame::Response(response)
    }
}

const UUID: u128 = 0x069a79f4_44e9_4726_a5be_fca90e38aaf5;
const INSTANCE: [u8; 16] = 0x8e1f0a5c_3b7d_4962_0f5e_6d7c8b9aa0b1_u128.to_be_bytes();
const NEW_YEAR: u64 = 1_767_225_600_000;

const STEVE: PlayerRef<'static> = PlayerRef { name: "Steve", uuid: None };
const STEVE_WITH_UUID: PlayerRef<'static> = PlayerRef { name: "Steve", uuid: Some(UUID) };
const ALEX: PlayerRef<'static> = PlayerRef { name: "Alex", uuid: None };

const PLAIN: PublishCommand<'static> = PublishCommand {
    server: 0,
    text: "",
    player: None,
    require_online: false,
    rerun: false,
    delay_ms: None,
    not_before: None,
    expires_at: None,
    stage: None,
    metadata: None,
};

const EVERYTHING: PublishCommand<'static> = PublishCommand {
    server: 0,
    text: "say \u{e9}",
    player: Some(STEVE_WITH_UUID),
    require_online: true,
    rerun: true,
    delay_ms: Some(1),
    not_before: Some(2),
    expires_at: Some(3),
    stage: Some("initial"),
    metadata: Some("{\"a\":1}"),
};

fn plugin_hello() -> PluginHello<'static> {
    PluginHello {
        version_min: 1,
        version_max: 1,
        capabilities: 0,
        instance: INSTANCE,
        window: 256,
        credential: Credential::Token("srv_7.8Hq2LxT0aYv4Rk9WzNc3Bm61pQeJdUfG"),
        held: List::default(),
        started: List::from(&[640]),
        finished: List::from(&[576]),
        in_doubt: List::default(),
        players: Some(List::from(&[STEVE])),
    }
}

fn plugin_hello_short() -> PluginHello<'static> {
    PluginHello { version_min: 1, version_max: 1, instance: INSTANCE, window: 64, ..Default::default() }
}

const TICKET: &[u8] = &[
    0x01, 0x2c, 0x07, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0xd0, 0x0b, 0x76, 0x9b, 0x01, 0x00,
    0x00, 0x5e, 0x21, 0x90, 0xc4, 0x1d, 0x6b, 0x83, 0xfa, 0x07, 0x3e, 0xb2, 0x58, 0xd9, 0x44, 0x6f, 0xa0,
];

fn plugin_hello_resume() -> PluginHello<'static> {
    PluginHello { credential: Credential::Ticket(TICKET), ..plugin_hello_short() }
}

fn plugin_hello_quic() -> PluginHello<'static> {
    let token = "srv_7.8Hq2LxT0aYv4Rk9WzNc3Bm61pQeJdUfG";
    PluginHello { credential: Credential::TicketAndToken { ticket: TICKET, token }, ..plugin_hello_short() }
}

/// The examples of protocol.md, by the name in their code block.
pub(crate) fn documented() -> Vec<(&'static str, Frame<'static>)> {
    let mut all = plugin();
    all.extend(publisher());
    all.extend([
        ("skipped", Request::Skipped { kind: 0x9c }.into()),
        ("ping", Request::Ping { nonce: 7 }.into()),
        ("pong", Request::Pong { nonce: 7 }.into()),
        ("plugin-hello-resume", Request::PluginHello(plugin_hello_resume()).into()),
        ("plugin-hello-quic", Request::PluginHello(plugin_hello_quic()).into()),
        ("ticket", Response::Ticket { ticket: TicketRef(TICKET) }.into()),
        ("go-away", Response::GoAway { code: 23, delay_ms: 2750 }.into()),
        ("error", Response::Error { code: 11, retry_after_ms: 0, detail: "the token is not valid" }.into()),
    ]);
    all
}

fn plugin() -> Vec<(&'static str, Frame<'static>)> {
    let welcome = PluginWelcome {
        version: 1,
        capabilities: 0,
        epoch: (3 << 32) + 9,
        heartbeat_ms: 10_000,
        ack_deadline_ms: 60_000,
        frame_bytes_max: 1 << 20,
        window_max: 4096,
        ticket: TicketRef(&[]),
        forget: List::from(&[576]),
    };
    let deliveries = &[
        DeliveryRef {
            id: 704,
            attempt: 1,
            require_online: true,
            rerun: false,
            text: "give Steve diamond 64",
            player: Some(STEVE_WITH_UUID),
        },
        DeliveryRef { id: 768, attempt: 2, require_online: false, rerun: true, text: "say hi", player: None },
    ];
    let results = &[
        ResultRef { id: 704, attempt: 1, outcome: Outcome::Completed, error: None, output: None },
        ResultRef {
            id: 768,
            attempt: 2,
            outcome: Outcome::Failed,
            error: Some("unknown command"),
            output: None,
        },
    ];
    vec![
        ("plugin-hello", Request::PluginHello(plugin_hello()).into()),
        ("plugin-hello-short", Request::PluginHello(plugin_hello_short()).into()),
        ("plugin-welcome", Response::PluginWelcome(welcome).into()),
        ("credit", Request::Credit { window: 32 }.into()),
        ("deliver", Response::Deliver { commands: List::from(deliveries) }.into()),
        ("started", Request::Started { ids: List::from(&[704, 768]) }.into()),
        ("results", Request::Results { batch: 1, results: List::from(results) }.into()),
        ("confirm", Response::Confirm { batch: 1 }.into()),
        (
            "players-joined",
            Request::Players { kind: PlayersKind::Joined, players: List::from(&[ALEX]) }.into(),
        ),
    ]
}

fn publisher() -> Vec<(&'static str, Frame<'static>)> {
    let hello = PublisherHello {
        version_min: 1,
        version_max: 1,
        capabilities: 0,
        credential: Credential::Token("key_3.p7Zr5VtQ1mXc8Ls2KfHy6Wd40uNaBgEi"),
    };
    let welcome = PublisherWelcome {
        version: 1,
        capabilities: 0,
        store: 1,
        heartbeat_ms: 10_000,
        frame_bytes_max: 1 << 20,
        publishes_in_flight_max: 1024,
    };
    let order = OrderHead {
        key: Some("order-1001"),
        reference: Some("shop#1001"),
        player: Some(STEVE),
        ordered: false,
    };
    let commands = &[
        PublishCommand { server: 7, text: "lp user Steve parent add vip", ..PLAIN },
        PublishCommand {
            server: 7,
            text: "give Steve diamond 64",
            require_online: true,
            delay_ms: Some(5000),
            ..PLAIN
        },
    ];
    let accepted = &[CommandRef { server: 7, seq: 832 }, CommandRef { server: 7, seq: 896 }];
    let retried = CommandEvent {
        seq: 768,
        order: 768,
        status: Status::Pending,
        attempt: 3,
        note: 1,
        error: Some("unknown command"),
    };
    let event =
        |ordinal, what| EventRef { place: EventPlace { boot: 3, ordinal }, at: NEW_YEAR, server: 7, what };
    vec![
        ("publisher-hello", Request::PublisherHello(hello).into()),
        ("publisher-welcome", Response::PublisherWelcome(welcome).into()),
        ("publish", Request::Publish(Publish { request: 1, order, commands: List::from(commands) }).into()),
        (
            "published",
            Response::Published { request: 1, order: 832, replayed: false, commands: List::from(accepted) }
                .into(),
        ),
        (
            "refused",
            Response::Refused {
                request: 2,
                code: 42,
                retry_after_ms: 0,
                detail: "commands[0].command: has 0 bytes, must have 1 to 4096",
            }
            .into(),
        ),
        ("subscribe", Request::Subscribe { after: Some(EventPlace { boot: 3, ordinal: 17 }) }.into()),
        ("event-command", Response::Event(event(18, What::Command(retried))).into()),
        ("event-online", Response::Event(event(19, What::Online)).into()),
        ("events-lost", Response::EventsLost { place: EventPlace { boot: 3, ordinal: 40 } }.into()),
    ]
}

/// Variants whose bytes are in `tests/golden/frames.txt`: every flag set, every number of another one.
pub(crate) fn variants() -> Vec<(&'static str, Frame<'static>)> {
    let full_hello = PluginHello {
        version_min: 0x0102,
        version_max: 0x0304,
        capabilities: 0x0506_0708,
        window: 4096,
        credential: Credential::Ticket(&[0xde, 0xad]),
        held: List::from(&[1, 2]),
        in_doubt: List::from(&[u64::MAX]),
        players: Some(List::from(&[STEVE_WITH_UUID, ALEX])),
        ..plugin_hello()
    };
    let welcome = PluginWelcome {
        ticket: TicketRef(&[1, 2, 3]),
        forget: List::from(&[1, u64::MAX]),
        ..Default::default()
    };
    let order =
        OrderHead { key: Some("k"), reference: Some("r"), player: Some(STEVE_WITH_UUID), ordered: true };
    let results = &[
        ResultRef {
            id: 1,
            attempt: 1,
            outcome: Outcome::AwaitingPlayer,
            error: None,
            output: Some("absent"),
        },
        ResultRef { id: 2, attempt: 65_535, outcome: Outcome::InDoubt, error: Some("e"), output: Some("o") },
    ];
    let event =
        |what| EventRef { place: EventPlace { boot: 1, ordinal: u64::MAX }, at: 0, server: u32::MAX, what };
    let expired =
        CommandEvent { seq: 9, order: 8, status: Status::Expired, attempt: 1, note: 255, error: None };
    let none = List::default();
    vec![
        ("plugin-hello-full", Request::PluginHello(full_hello).into()),
        ("plugin-welcome-full", Response::PluginWelcome(welcome).into()),
        ("publisher-hello-bare", Request::PublisherHello(PublisherHello::default()).into()),
        (
            "publish-full",
            Request::Publish(Publish { request: 9, order, commands: List::from(&[EVERYTHING, PLAIN]) })
                .into(),
        ),
        ("results-full", Request::Results { batch: u64::MAX, results: List::from(results) }.into()),
        ("players-online", Request::Players { kind: PlayersKind::Online, players: none }.into()),
        (
            "players-left",
            Request::Players { kind: PlayersKind::Left, players: List::from(&[STEVE_WITH_UUID]) }.into(),
        ),
        ("subscribe-now", Request::Subscribe { after: None }.into()),
        (
            "published-replay",
            Response::Published { request: 1, order: 2, replayed: true, commands: List::default() }.into(),
        ),
        ("event-offline", Response::Event(event(What::Offline)).into()),
        ("event-expired", Response::Event(event(What::Command(expired))).into()),
        ("ping-from-broker", Response::Ping { nonce: 1 }.into()),
        ("pong-from-broker", Response::Pong { nonce: 2 }.into()),
    ]
}
