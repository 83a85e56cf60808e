//! Rules of bridges that ask who published a message.

use tidewire_bridges::{CLIENT_ID_PROPERTY, Template, USER_NAME_PROPERTY};

use super::bridge_rules::place_texts;
use super::rules::Broken;
use super::{Bridge, BridgeRule, Mqtt};

/// What messages of ours do not carry can never exist.
pub(super) fn check(bridge: &Bridge, mqtt: &Mqtt) -> Result<(), Broken> {
    let properties = [
        (
            CLIENT_ID_PROPERTY,
            "client_id_property",
            mqtt.client_id_property,
        ),
        (
            USER_NAME_PROPERTY,
            "user_name_property",
            mqtt.user_name_property,
        ),
    ];
    for (index, rule) in bridge.out.iter().enumerate() {
        for (key, text) in texts(rule) {
            let Ok(template) = Template::parse(text) else {
                continue;
            };
            for (property, setting, _) in properties.iter().filter(|it| !it.2) {
                if let Some(place) = template.needs_property(property) {
                    return Err(Broken {
                        key: format!("out.{index}.{key}"),
                        problem: format!(
                            "is {text:?}: messages have no {{{place}}} unless \
                             mqtt.{setting} = true"
                        ),
                    });
                }
            }
        }
    }
    Ok(())
}

/// Every text with placeholders, and its key.
fn texts(rule: &BridgeRule) -> impl Iterator<Item = (String, &str)> {
    let topic = rule.topic.as_deref().map(|it| ("topic".to_owned(), it));
    let added = rule.user_properties_add.iter().enumerate();
    let added = added.filter_map(|(index, text)| {
        let (_, value) = text.split_once('=')?;
        Some((format!("user_properties_add.{index}"), value))
    });
    let payload = rule.payload_template.as_deref();
    let payload = payload.map(|it| ("payload_template".to_owned(), it));
    let single = topic.into_iter().chain(payload);
    single.chain(place_texts(rule)).chain(added)
}
