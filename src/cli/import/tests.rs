use std::path::Path;

use super::import;
use crate::config::{
    BridgeProtocol, BridgeRetain, BridgeStart, CertificateAs, CertificateName, Config, Loader,
    StoreEngine, TlsVersion, Transport,
};

fn translate(text: &str) -> (String, Config) {
    let translated = import(text).unwrap();
    let mut loader = Loader::default();
    let loaded = loader
        .text(Path::new("t.toml"), &translated)
        .and_then(|()| loader.finish());
    match loaded {
        Ok(config) => (translated, config),
        Err(error) => panic!("{error}\n{translated}"),
    }
}

#[test]
fn listeners_limits_and_files_are_found_again() {
    let (text, config) = translate(
        "# a comment\nper_listener_settings false\nallow_anonymous false\n\
         password_file /etc/mosquitto/users\nmax_inflight_messages 0\nmax_queued_messages 500\n\
         persistent_client_expiration 14d\nuser mosquitto\n\
         listener 1883 127.0.0.1\nlistener 8883\nprotocol mqtt\ncafile ca.crt\n\
         certfile server.crt\nkeyfile server.key\nrequire_certificate true\nmax_connections 10\n\
         listener 9001 ::1\nprotocol websockets\nlistener 0 /run/mqtt.sock\n",
    );
    let binds: Vec<_> = config
        .listeners
        .iter()
        .map(|it| (&*it.bind, it.transport))
        .collect();
    let expected = [
        ("127.0.0.1:1883", Transport::Tcp),
        ("0.0.0.0:8883", Transport::Tls),
        ("[::1]:9001", Transport::Ws),
        ("/run/mqtt.sock", Transport::Unix),
    ];
    assert_eq!(binds, expected);
    assert_eq!(config.listeners[1].connections_max, Some(10));
    assert_eq!(config.allow_anonymous, Some(false));
    let users = config.auth.password_file.unwrap();
    assert_eq!(users, Path::new("/etc/mosquitto/users"));
    assert_eq!(config.mqtt.inflight_max, u16::MAX);
    assert_eq!(config.limits.queue_messages_max, 500);
    assert_eq!(config.limits.session_expiry_seconds_max, 1_209_600);
    assert!(text.contains("# line 8, without counterpart here: user mosquitto"));
}

#[test]
fn rights_names_and_the_store_are_found_again() {
    let (text, config) = translate(
        "acl_file /etc/mosquitto/acl\npid_file /run/m.pid\nmax_keepalive 120\nmax_topic_alias 7\n\
         persistence true\npersistence_location /var/lib/mosquitto/\n\
         listener 8883\ncafile ca.crt\ncertfile server.crt\nkeyfile server.key\ncrlfile ca.crl\n\
         require_certificate true\nuse_subject_as_username true\nmount_point plant/7/\n\
         tls_version tlsv1.3\nlistener 1883\nmount_point half\n",
    );
    assert_eq!(config.acl.file.unwrap(), Path::new("/etc/mosquitto/acl"));
    assert_eq!(config.pid_file.unwrap(), Path::new("/run/m.pid"));
    assert_eq!(config.mqtt.keep_alive_seconds_max, Some(120));
    assert_eq!(config.mqtt.topic_alias_maximum, 7);
    assert_eq!(config.store.engine, StoreEngine::Lmdb);
    assert_eq!(
        config.store.directory,
        Path::new("/var/lib/mosquitto/tidewire")
    );
    let listener = &config.listeners[0];
    assert_eq!(listener.client_crl.as_deref(), Some(Path::new("ca.crl")));
    assert_eq!(listener.tls_version_min, TlsVersion::V1_3);
    assert_eq!(listener.certificate_as, CertificateAs::UserName);
    assert_eq!(listener.certificate_name, CertificateName::Subject);
    assert_eq!(listener.mount_point.as_deref(), Some("plant/7/"));
    let (text_without, _) = translate("listener 1883\nuse_identity_as_username true\n");
    assert!(text_without.contains("# names of certificates need require_certificate"));
    assert!(text.contains("# line 17, without counterpart here: mount_point half"));
}

#[test]
fn sizes_that_do_not_fit_together_here_are_raised() {
    let (text, config) = translate("max_packet_size 30\nmax_queued_bytes 40\n");
    let limits = config.limits;
    assert_eq!(
        (limits.packet_bytes_max, limits.queue_bytes_max),
        (128, 128)
    );
    assert!(text.contains("# queue_bytes_max is raised to hold one packet"));
    let (_, config) = translate("max_packet_size 268435455\n");
    assert_eq!(config.limits.mailbox_bytes_max, 268_435_455);
}

#[test]
fn options_of_bridges_without_counterpart_stay_as_comments() {
    let (text, _) = translate(
        "connection up\nbridge_attempt_unsubscribe false\nbridge_insecure true\naddress a\n\
         topic # out\n",
    );
    assert!(text.contains("# line 2, without counterpart here: bridge_attempt_unsubscribe false"));
}

#[test]
fn bridges_are_found_again() {
    let (text, config) = translate(
        "connection up\naddress central.example:8883 standby.example\n\
         topic sensors/# out 1 here/ there/\ntopic cmd/+ in 2 \"\" there/\ntopic \"\" both 0 a b\n\
         remote_username u\nremote_password se\"cret\nremote_clientid c\n\
         bridge_protocol_version mqttv50\nbridge_cafile ca.crt\nbridge_outgoing_retain false\n\
         restart_timeout 2 40 20\nround_robin true\nstart_type once\nidle_timeout 5\n",
    );
    let [bridge] = &config.bridges[..] else {
        panic!("{text}");
    };
    assert_eq!(
        bridge.servers,
        [
            "mqtts://central.example:8883",
            "mqtts://standby.example:1883"
        ]
    );
    assert_eq!(bridge.protocol, BridgeProtocol::V5);
    assert_eq!(bridge.password.as_ref().unwrap().0, "se\"cret");
    assert_eq!(
        (bridge.restart_base_ms, bridge.restart_max_ms),
        (2_000, 40_000)
    );
    let out = &bridge.out[0];
    assert_eq!(
        (&*out.local_prefix, &*out.remote_prefix),
        ("here/", "there/")
    );
    assert_eq!((out.qos_max, out.retain), (1, BridgeRetain::Strip));
    assert_eq!(bridge.inward[0].retain, BridgeRetain::Keep);
    assert_eq!(bridge.inward[0].remote_prefix, "there/");
    assert_eq!(bridge.both[0].filters, [""]);
    assert_eq!((bridge.start, bridge.idle_seconds), (BridgeStart::Once, 5));
}

#[test]
fn the_old_port_is_a_listener_too_and_nothing_at_all_is_this_machine() {
    let (_, config) = translate("port 1884\nbind_address 10.0.0.1\nlistener 9001\n");
    let binds: Vec<_> = config.listeners.iter().map(|it| &*it.bind).collect();
    assert_eq!(binds, ["10.0.0.1:1884", "0.0.0.0:9001"]);
    let (_, config) = translate("allow_anonymous true\n");
    assert_eq!(config.listeners[0].bind, "127.0.0.1:1883");
}

#[test]
fn what_mosquitto_refuses_is_refused_and_no_secret_is_repeated() {
    let refusal = |text: &str| import(text).unwrap_err().to_string();
    assert_eq!(refusal("\nlistener x"), "line 2: listener needs a port");
    assert_eq!(
        refusal("topic a out 1"),
        "line 1: topic belongs after a connection"
    );
    let direction = refusal("connection c\ntopic a sideways");
    assert!(direction.starts_with("line 2: topic has a direction"));
    let text = import("psk_file x\nauth_opt_password hunter2\nbridge_psk_x 1").unwrap_err();
    assert!(!text.to_string().contains("hunter2"));
    assert!(
        !import("auth_opt_password hunter2")
            .unwrap()
            .contains("hunter2")
    );
}

#[test]
fn what_is_for_all_listeners_makes_no_listener_of_its_own() {
    let (text, config) = translate(
        "set_tcp_nodelay false\nretain_available true\nlistener 1883 127.0.0.1\n\
         listener 0 /run/mqtt.sock\n",
    );
    let binds: Vec<_> = config.listeners.iter().map(|it| &*it.bind).collect();
    assert_eq!(binds, ["127.0.0.1:1883", "/run/mqtt.sock"]);
    assert!(!config.listeners[0].nodelay);
    assert!(
        text.contains("# line 2, always so here: retain_available true"),
        "{text}"
    );
}

#[test]
fn a_bridge_that_spoke_tls_never_speaks_without() {
    for line in [
        "bridge_tls_use_os_certs true",
        "bridge_capath /etc/ca",
        "bridge_psk 00",
    ] {
        let (_, config) = translate(&format!(
            "connection a\naddress h\n{line}\ntopic # out\ncleansession true\n\
             notification_topic n\nnotifications false\nbridge_tcp_keepalive 20 5 3\n",
        ));
        let bridge = &config.bridges[0];
        assert_eq!(bridge.servers, ["mqtts://h:1883"], "{line}");
        assert_eq!(
            (bridge.session_expiry_seconds, bridge.tcp_keep_alive_seconds),
            (0, 20)
        );
        assert_eq!(bridge.notify_topic, None);
    }
}
