import assert from 'node:assert/strict';
import { GRPCGenericError } from 'etcd3';
import { certificate, connect, setting, test } from './support.js';

test('serves who has a certificate', async t => {
  const credentials = {
    rootCertificate: certificate('ca.crt'),
    certChain: certificate('client.crt'),
    privateKey: certificate('client.key'),
  };
  const { keys, watch } = connect(t, { hosts: setting('CLIENTS_TLS'), credentials });
  const seen = await watch(keys.watch().prefix(''));
  await keys.put('a').value('1');
  assert.equal(await keys.get('a').string(), '1');
  assert.deepEqual(await seen.next(1), ['put a=1']);
});

test('refuses who has none', async t => {
  const credentials = { rootCertificate: certificate('ca.crt') };
  const { keys } = connect(t, {
    hosts: setting('CLIENTS_TLS'),
    credentials,
    defaultCallOptions: () => ({ deadline: Date.now() + 1000 }),
  });
  await assert.rejects(keys.put('a').value('1').exec(), GRPCGenericError);
});
