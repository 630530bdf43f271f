import assert from 'node:assert/strict';
import { connect, test } from './support.js';

test('put counts versions and revisions', async t => {
  const { keys } = connect(t);
  const first = await keys.put('a').value('1').exec();
  const previous = await keys.put('a').value('2').getPrevious();
  assert.equal(previous.value.toString(), '1');

  const { kvs } = await keys.get('a').exec();
  assert.equal(kvs[0].value.toString(), '2');
  assert.equal(kvs[0].version, '2');
  assert.equal(kvs[0].create_revision, first.header.revision);
  assert.equal(await keys.get('missing').string(), null);
});

test('values keep their types', async t => {
  const { keys } = connect(t);
  const bytes = Buffer.from([0, 255, 10]);
  await keys.put('bytes').value(bytes);
  await keys.put('json').value(JSON.stringify({ ok: true }));
  await keys.put('number').value(42);
  assert.deepEqual(await keys.get('bytes').buffer(), bytes);
  assert.deepEqual(await keys.get('json').json(), { ok: true });
  assert.equal(await keys.get('number').number(), 42);
});

test('get by prefix limits, sorts and counts', async t => {
  const { keys } = connect(t);
  for (const name of ['b', 'a', 'd', 'c']) await keys.put(name).value(name);

  const page = await keys.getAll().limit(2).exec();
  assert.deepEqual(page.kvs.map(kv => kv.value.toString()), ['a', 'b']);
  assert.equal(page.more, true);
  assert.equal(await keys.getAll().count(), 4);
  assert.deepEqual(await keys.getAll().sort('Key', 'Descend').keys(), ['d', 'c', 'b', 'a']);
  assert.deepEqual(await keys.getAll().sort('Create', 'Ascend').keys(), ['b', 'a', 'd', 'c']);
  assert.deepEqual(await keys.getAll().inRange({ start: 'b', end: 'd' }).strings(), { b: 'b', c: 'c' });
});

test('get from the past and from this member alone', async t => {
  const { keys } = connect(t);
  const past = (await keys.put('a').value('old').exec()).header.revision;
  const now = (await keys.put('a').value('new').exec()).header.revision;

  assert.equal(await keys.get('a').revision(past).string(), 'old');
  assert.equal(await keys.get('a').serializable(true).string(), 'new');
  assert.equal(await keys.getAll().minModRevision(now).count(), 1);
  await assert.rejects(keys.get('a').revision(Number(now) + 1000).string(), /required revision is a future revision/);
});

test('put keeps the value or the lease when asked', async t => {
  const { client, keys } = connect(t);
  const lease = client.lease(60);
  await lease.put('put keeps the value or the lease when asked/a').value('1');
  await keys.put('a').touch();
  await keys.put('a').value('2').ignoreLease();
  const { kvs } = await keys.get('a').exec();
  assert.equal(kvs[0].value.toString(), '2');
  await lease.revoke();
});

test('delete returns what it removed', async t => {
  const { keys } = connect(t);
  for (const name of ['a', 'b', 'c']) await keys.put(name).value(name);

  const removed = await keys.delete().key('a').getPrevious();
  assert.deepEqual(removed.map(kv => kv.value.toString()), ['a']);
  assert.equal((await keys.delete().all().exec()).deleted, '2');
  assert.equal((await keys.delete().all().exec()).deleted, '0');
});

test('a transaction chooses a branch', async t => {
  const { keys } = connect(t);
  const create = () =>
    keys
      .if('a', 'Create', '==', 0)
      .and('b', 'Version', '<', 1)
      .then(keys.put('a').value('made'), keys.put('b').value('made'))
      .else(keys.get('a'), keys.delete().key('b'))
      .commit();

  assert.equal((await create()).succeeded, true);
  const refused = await create();
  assert.equal(refused.succeeded, false);
  assert.equal(refused.responses[0].response_range.kvs[0].value.toString(), 'made');
  assert.equal(refused.responses[1].response_delete_range.deleted, '1');

  const compared = keys.if('a', 'Value', '>', 'a').and('a', 'Mod', '!=', 1).then(keys.put('a').value('changed'));
  assert.equal((await compared.commit()).succeeded, true);
});

test('a software transaction loses no update', async t => {
  const { keys } = connect(t);
  await keys.put('total').value(0);
  const add = () =>
    keys.stm({ retries: 100 }).transact(async tx => {
      const total = await tx.get('total').number();
      await tx.put('total').value(total + 1);
    });
  await Promise.all(Array.from({ length: 10 }, add));
  assert.equal(await keys.get('total').number(), 10);
});

test('compaction forgets the past', async t => {
  const { client, keys } = connect(t);
  const past = (await keys.put('a').value('old').exec()).header.revision;
  const now = (await keys.put('a').value('new').exec()).header.revision;
  await client.kv.compact({ revision: now, physical: true });

  await assert.rejects(keys.get('a').revision(past).string(), /required revision has been compacted/);
  assert.equal(await keys.get('a').revision(now).string(), 'new');
  await assert.rejects(client.kv.compact({ revision: past }), /required revision has been compacted/);
});

test('maintenance', async t => {
  const { client } = connect(t);
  const status = await client.maintenance.status();
  assert.match(status.version, /^3\.7\./);
  assert.equal(status.leader, status.header.member_id);
  const { members } = await client.cluster.memberList({});
  assert.deepEqual(members.map(member => member.name), ['plain']);
  assert.deepEqual((await client.maintenance.alarm({ action: 'Get' })).alarms, []);
});
