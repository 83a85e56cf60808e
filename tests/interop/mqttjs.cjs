// MQTT.js: connect, subscribe and publish with each quality of service, retained and will.
// Arguments: folder of modules, URL, protocol version, seconds until it has failed.
"use strict";
const { once } = require("node:events");
const path = require("node:path");

const [modules, url, versionText, seconds] = process.argv.slice(2);
const mqtt = require(path.join(modules, "mqtt"));
const version = Number(versionText);

setTimeout(() => {
  console.error("MQTT.js: too late");
  process.exit(1);
}, Number(seconds) * 1000).unref();

function connect(more) {
  const protocolId = version === 3 ? "MQIsdp" : "MQTT";
  return mqtt.connectAsync(url, {
    protocolVersion: version,
    protocolId,
    reconnectPeriod: 0,
    ...more,
  });
}

function expect(actual, wanted, what) {
  if (actual !== wanted) throw new Error(`${what}: ${actual}, expected ${wanted}`);
}

async function main() {
  const client = await connect();
  const base = `mqttjs/${new URL(url).protocol.slice(0, -1)}/${version}`;
  for (const qos of [0, 1, 2]) {
    const topic = `${base}/${qos}`;
    const [granted] = await client.subscribeAsync(topic, { qos });
    expect(granted.qos, qos, "granted");
    const arrived = once(client, "message");
    await client.publishAsync(topic, `hello ${qos}`, { qos });
    const [name, payload, packet] = await arrived;
    expect(`${name} ${payload} ${packet.qos}`, `${topic} hello ${qos} ${qos}`, "message");
  }
  await client.publishAsync(`${base}/kept`, "kept", { qos: 1, retain: true });
  let arrived = once(client, "message");
  await client.subscribeAsync(`${base}/kept`, { qos: 1 });
  let [, payload, packet] = await arrived;
  expect(`${payload} ${packet.retain}`, "kept true", "retained");

  await client.subscribeAsync(`${base}/will`, { qos: 1 });
  arrived = once(client, "message");
  const mortal = await connect({ will: { topic: `${base}/will`, payload: "gone", qos: 1 } });
  mortal.stream.destroy();
  [, payload] = await arrived;
  expect(String(payload), "gone", "will");
  await client.endAsync();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
