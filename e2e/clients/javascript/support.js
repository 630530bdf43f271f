// Clients of the servers that kind/clients.sh starts and names in the environment.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test as unbounded } from 'node:test';
import { Etcd3 } from 'etcd3';

export function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run these tests with kind/clients.sh javascript`);
  return value;
}

/** A test that ends: longer than an election, shorter than a developer's patience. */
export function test(name, body) {
  return unbounded(name, { timeout: 60_000 }, body);
}

/**
 * A client for the test `t`, a part of the keys that no other test uses, and `watch`, which creates what a watch builder
 * describes. All of it ends with the test: an open watcher would reconnect for ever.
 */
export function connect(t, options = { hosts: setting('CLIENTS_PLAIN') }) {
  const client = new Etcd3(options);
  const watchers = [];
  t.after(async () => {
    await Promise.all(watchers.map(watcher => watcher.cancel()));
    client.close();
  });
  const watch = async builder => {
    const watcher = await builder.create();
    watchers.push(watcher);
    return new Seen(watcher);
  };
  return { client, keys: client.namespace(`${t.name}/`), watch };
}

/** A file of the folder with certificates. */
export function certificate(name) {
  return readFileSync(`${setting('CLIENTS_CERTS')}/${name}`);
}

/** What a watcher sees, as "put name=value" and "delete name". */
class Seen {
  #lines = [];

  constructor(watcher) {
    this.watcher = watcher;
    watcher.on('put', kv => this.#lines.push(`put ${kv.key}=${kv.value}`));
    watcher.on('delete', kv => this.#lines.push(`delete ${kv.key}`));
  }

  /** The next `count` events, once they are there. */
  async next(count) {
    while (this.#lines.length < count) await once(this.watcher, 'data');
    return this.#lines.splice(0, count);
  }
}

/** Calls `poll` until it answers something true, and answers that. */
export async function eventually(poll) {
  for (;;) {
    const answer = await poll();
    if (answer) return answer;
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}
