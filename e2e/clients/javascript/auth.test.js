import assert from 'node:assert/strict';
import { EtcdAuthenticationFailedError, EtcdPermissionDeniedError, EtcdRoleExistsError, EtcdUserNotFoundError, Range } from 'etcd3';
import { certificate, connect, setting, test } from './support.js';

function logIn(t, username, password) {
  return connect(t, {
    hosts: setting('CLIENTS_AUTH'),
    credentials: { rootCertificate: certificate('ca.crt') },
    auth: { username, password },
  });
}

test('a user does what its role permits', async t => {
  const { client: root } = logIn(t, 'root', 'root');
  const { client: alice, watch } = logIn(t, 'alice', 'secret');
  await root.put('public/a').value('1');
  assert.equal(await alice.get('public/a').string(), '1');
  await assert.rejects(alice.put('public/a').value('2').exec(), EtcdPermissionDeniedError);
  await assert.rejects(alice.get('private/a').string(), EtcdPermissionDeniedError);

  const seen = await watch(alice.watch().prefix('public/'));
  await root.put('public/a').value('3');
  assert.deepEqual(await seen.next(1), ['put public/a=3']);
});

test('a wrong password is refused', async t => {
  await assert.rejects(logIn(t, 'alice', 'wrong').client.get('public/a').string(), EtcdAuthenticationFailedError);
});

test('users and roles are managed', async t => {
  const { client: root } = logIn(t, 'root', 'root');
  const role = await root.role('writer').create();
  await assert.rejects(root.role('writer').create(), EtcdRoleExistsError);
  await role.grant({ permission: 'Readwrite', range: Range.prefix('writers/') });
  const user = await root.user('bob').create('hunter2');
  await user.addRole('writer');
  assert.deepEqual((await user.roles()).map(({ name }) => name), ['writer']);
  assert.deepEqual((await root.getUsers()).map(({ name }) => name), ['alice', 'bob', 'root']);
  assert.deepEqual((await root.getRoles()).map(({ name }) => name), ['reader', 'writer']);
  const [permission] = await role.permissions();
  assert.equal(permission.permission, 'Readwrite');

  await logIn(t, 'bob', 'hunter2').client.put('writers/a').value('1');
  await user.delete();
  await assert.rejects(root.user('bob').roles(), EtcdUserNotFoundError);
  await role.delete();
});
