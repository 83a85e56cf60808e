// MQTT.js logs in by SCRAM-SHA-256 with AUTH packets.
// Arguments: folder of modules, URL, user, password, whether it is the right one, seconds to fail.
"use strict";
const crypto = require("node:crypto");
const { once } = require("node:events");
const path = require("node:path");

const [modules, url, user, password, isRight, seconds] = process.argv.slice(2);
const mqtt = require(path.join(modules, "mqtt"));

setTimeout(() => {
  console.error("MQTT.js: too late");
  process.exit(1);
}, Number(seconds) * 1000).unref();

const authenticationMethod = "SCRAM-SHA-256";
const bare = `n=${user},r=${crypto.randomBytes(18).toString("base64")}`;
const sign = (key, text) => crypto.createHmac("sha256", key).update(text).digest();
let expected;

/** The answer to the broker's challenge. */
function answer(challenge) {
  const [, nonce, salt, rounds] = /^r=([^,]*),s=([^,]*),i=(\d+)$/.exec(challenge);
  const salted = crypto.pbkdf2Sync(
    password, Buffer.from(salt, "base64"), Number(rounds), 32, "sha256",
  );
  const key = sign(salted, "Client Key");
  const stored = crypto.createHash("sha256").update(key).digest();
  const unproven = `c=biws,r=${nonce}`;
  const signed = `${bare},${challenge},${unproven}`;
  const signature = sign(stored, signed);
  const proof = key.map((byte, index) => byte ^ signature[index]).toString("base64");
  expected = `v=${sign(sign(salted, "Server Key"), signed).toString("base64")}`;
  return `${unproven},p=${proof}`;
}

async function main() {
  const client = mqtt.connect(url, {
    protocolVersion: 5,
    reconnectPeriod: 0,
    properties: { authenticationMethod, authenticationData: Buffer.from(`n,,${bare}`) },
  });
  client.handleAuth = (packet, done) => {
    const data = Buffer.from(answer(String(packet.properties.authenticationData)));
    const properties = { authenticationMethod, authenticationData: data };
    done(null, { cmd: "auth", reasonCode: 0x18, properties });
  };
  if (isRight !== "true") {
    const [error] = await once(client, "error").catch((error) => [error]);
    if (error.code !== 0x87) throw error;
    return;
  }
  const [connack] = await once(client, "connect");
  const proof = String(connack.properties.authenticationData);
  if (proof !== expected) throw new Error(`the broker's proof is ${proof}`);
  const arrived = once(client, "message");
  await client.subscribeAsync("scram", { qos: 1 });
  await client.publishAsync("scram", "hello", { qos: 1 });
  const [, payload] = await arrived;
  if (String(payload) !== "hello") throw new Error(`message: ${payload}`);
  await client.endAsync();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
