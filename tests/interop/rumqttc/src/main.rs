//! rumqttc: connect, subscribe and publish with each quality of service, retained and will.
//!
//! Arguments: address as `tcp://host:port`, `tls://host:port?ca=FILE`, `ws://host:port/path` or
//! `unix:///path`, protocol version 4 or 5, seconds until it has failed.

mod client;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use client::{Address, Client, Message, Will, v3_1_1, v5_0};

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rumqttc: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Outcome<()> {
    let [url, version, seconds] = arguments else {
        return Err("needs an address, a version and seconds".into());
    };
    let address = Address::parse(url)?;
    let deadline = Duration::from_secs(seconds.parse()?);
    let checks = async {
        match version.as_str() {
            "4" => talk::<v3_1_1::Connection>(&address).await,
            "5" => talk::<v5_0::Connection>(&address).await,
            other => Err(format!("no version {other}").into()),
        }
    };
    tokio::time::timeout(deadline, checks)
        .await
        .map_err(|_| "too late")?
}

async fn talk<C: Client>(address: &Address) -> Outcome<()> {
    let base = format!("rumqttc/{}/{}", address.scheme(), C::VERSION);
    let mut client = C::connect(address, &format!("{base}/first"), None)?;
    delivers(&mut client, &base).await?;
    retains(&mut client, &base).await?;
    leaves_a_will(&mut client, address, &base).await?;
    client.disconnect().await
}

async fn delivers<C: Client>(client: &mut C, base: &str) -> Outcome<()> {
    for qos in 0..3 {
        let topic = format!("{base}/{qos}");
        client.subscribe(&topic, qos).await?;
        for payload in [vec![], vec![0, 255], vec![b'x'; 9_000]] {
            let sent = Message {
                topic: topic.clone(),
                payload,
                qos,
                retain: false,
            };
            client.publish(&sent).await?;
            equal(&client.message().await?, &sent)?;
        }
    }
    Ok(())
}

async fn retains<C: Client>(client: &mut C, base: &str) -> Outcome<()> {
    let kept = Message {
        topic: format!("{base}/kept"),
        payload: b"kept".to_vec(),
        qos: 1,
        retain: true,
    };
    client.publish(&kept).await?;
    client.subscribe(&format!("{base}/kept/#"), 1).await?;
    equal(&client.message().await?, &kept)
}

async fn leaves_a_will<C: Client>(client: &mut C, address: &Address, base: &str) -> Outcome<()> {
    let topic = format!("{base}/will");
    client.subscribe(&topic, 2).await?;
    let will = Will {
        topic: topic.clone(),
        payload: b"gone".to_vec(),
    };
    let mut mortal = C::connect(address, &format!("{base}/mortal"), Some(will))?;
    // Its answer says that the connection is up.
    mortal.subscribe(&format!("{base}/unused"), 0).await?;
    drop(mortal);
    let expected = Message {
        topic,
        payload: b"gone".to_vec(),
        qos: 1,
        retain: false,
    };
    equal(&client.message().await?, &expected)
}

fn equal(actual: &Message, expected: &Message) -> Outcome<()> {
    match actual == expected {
        true => Ok(()),
        false => Err(format!("{actual:?}, expected {expected:?}").into()),
    }
}
