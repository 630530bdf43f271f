import assert from 'node:assert/strict';
import { isRecoverableError } from 'etcd3';
import { connect, eventually, setting, test } from './support.js';

// Repeats a write until it is accepted, as applications do while a leader is missing.
function persist(write) {
  return eventually(async () => {
    try {
      return await write();
    } catch (error) {
      if (!isRecoverableError(error) && !/etcdserver|circuit/i.test(error.message)) throw error;
    }
  });
}

test('the client follows when the leader is killed', async t => {
  const hosts = setting('CLIENTS_MEMBERS').split(',');
  const pids = setting('CLIENTS_PIDS').split(',').map(Number);
  const { keys, watch } = connect(t, { hosts, defaultCallOptions: c => (c.isStream ? {} : { deadline: Date.now() + 5000 }) });

  const begin = (await persist(() => keys.put('begin').value('v').exec())).header.revision;
  const seen = await watch(keys.watch().prefix('').startRevision(String(Number(begin) + 1)));
  for (let i = 0; i < 20; i++) {
    if (i === 10) process.kill(pids[await leader(t, hosts)], 'SIGKILL');
    await persist(() => keys.put(String(i).padStart(2, '0')).value('v').exec());
  }

  // A put that failed may have happened, so a key may appear twice; none is missing, and none goes back.
  const names = [];
  while (new Set(names).size < 20) names.push(...(await seen.next(1)));
  assert.deepEqual(names, names.toSorted?.() ?? [...names].sort());
  assert.equal(await keys.getAll().count(), 21);
});

/** The position of the member that leads. */
async function leader(t, hosts) {
  for (const [i, host] of hosts.entries()) {
    const status = await connect(t, { hosts: host }).client.maintenance.status();
    if (status.leader === status.header.member_id) return i;
  }
  throw new Error('no member leads');
}
