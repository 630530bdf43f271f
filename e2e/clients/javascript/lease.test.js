import assert from 'node:assert/strict';
import { once } from 'node:events';
import { EtcdLeaseInvalidError, EtcdLockFailedError } from 'etcd3';
import { connect, eventually, test } from './support.js';

test('a lease takes its keys along', async t => {
  const { client, keys } = connect(t);
  const lease = keys.lease(60);
  await lease.put('a').value('1');
  const info = await client.leaseClient.leaseTimeToLive({ ID: await lease.grant(), keys: true });
  assert.equal(info.grantedTTL, '60');
  assert.deepEqual(info.keys.map(String), [`${t.name}/a`]);

  await lease.revoke();
  assert.equal(await keys.get('a').exists(), false);
});

test('a lease lives while it is kept alive, and expires when released', async t => {
  const { keys, watch } = connect(t);
  const seen = await watch(keys.watch().prefix(''));
  const lease = keys.lease(1);
  await lease.put('a').value('1');
  await once(lease, 'keepaliveSucceeded');
  const answer = await lease.keepaliveOnce();
  assert.equal(answer.TTL, '1');
  lease.release();
  assert.deepEqual(await seen.next(2), ['put a=1', 'delete a']);
});

test('a lost lease is told', async t => {
  const { client, keys } = connect(t);
  const lease = keys.lease(60);
  const lost = once(lease, 'lost');
  await client.leaseClient.leaseRevoke({ ID: await lease.grant() });
  await assert.rejects(lease.keepaliveOnce(), EtcdLeaseInvalidError);
  const [reason] = await lost;
  assert.ok(reason instanceof EtcdLeaseInvalidError);
});

test('a lock is held by one', async t => {
  const { keys } = connect(t);
  const held = await keys.lock('lock').ttl(30).acquire();
  await assert.rejects(keys.lock('lock').acquire(), EtcdLockFailedError);
  await held.release();
  assert.equal(await keys.lock('lock').do(() => 'done'), 'done');
});

test('an election has one leader at a time', async t => {
  const { client, watch } = connect(t);
  const election = client.election(t.name, 5);
  // The client ends its stream with its last watch, and forgets a watch that is created meanwhile. So one stays.
  const candidates = await watch(election.namespace.watch().prefix(''));
  const observer = await election.observe();
  const first = election.campaign('one');
  await first.wait();
  await eventually(() => observer.leader() === 'one');
  await first.proclaim('one, again');
  await eventually(() => observer.leader() === 'one, again');

  const second = election.campaign('two');
  // The event comes once, perhaps before the resignation is answered.
  const elected = second.wait();
  await candidates.next(3);
  assert.equal(await election.leader(), 'one, again');
  await first.resign();
  await elected;
  assert.equal(await election.leader(), 'two');
  await eventually(() => observer.leader() === 'two');
  await observer.cancel();
  await second.resign();
});
