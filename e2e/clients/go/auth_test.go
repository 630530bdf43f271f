package clients

import (
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func login(t *testing.T, user, password string) clientv3.Config {
	t.Helper()
	info := transport.TLSInfo{TrustedCAFile: setting(t, "CLIENTS_CERTS") + "/ca.crt"}
	return clientv3.Config{
		Endpoints: []string{setting(t, "CLIENTS_AUTH")},
		TLS:       must(info.ClientConfig()),
		Username:  user,
		Password:  password,
	}
}

func TestUserDoesWhatItsRolePermits(t *testing.T) {
	root, alice, ctx := connect(t, login(t, "root", "root")), connect(t, login(t, "alice", "secret")), bounded(t)
	begin := put(ctx, t, root, "public/go/", "a")
	equal(t, "permitted read", values(must(alice.Get(ctx, "public/go/a"))), "a")
	_, err := alice.Put(ctx, "public/go/a", "b")
	equal(t, "write", err, rpctypes.ErrPermissionDenied)
	_, err = alice.Get(ctx, "private")
	equal(t, "read of what is private", err, rpctypes.ErrPermissionDenied)
	_, err = alice.Txn(ctx).Then(clientv3.OpGet("public/go/a"), clientv3.OpPut("private", "")).Commit()
	equal(t, "transaction of which a part is permitted", err, rpctypes.ErrPermissionDenied)
	_, err = alice.UserAdd(ctx, "mallory", "m")
	equal(t, "user made by a user", err, rpctypes.ErrPermissionDenied)

	watch := alice.Watch(ctx, "public/go/", clientv3.WithPrefix(), clientv3.WithRev(begin))
	equal(t, "events", strings.Join(events(t, watch, "public/go/", 1), ", "), "PUT a=a")
	refused := <-alice.Watch(ctx, "private")
	equal(t, "watch of what is private", refused.Err().Error(), rpctypes.ErrGRPCPermissionDenied.Error())
}

func TestStrangersAreRefused(t *testing.T) {
	_, err := clientv3.New(login(t, "alice", "wrong"))
	equal(t, "wrong password", err, rpctypes.ErrAuthFailed)
	nobody := connect(t, login(t, "", ""))
	_, err = nobody.Get(bounded(t), "public/go/a")
	equal(t, "no name", err, rpctypes.ErrUserEmpty)
}

func TestUsersAndRolesAreManaged(t *testing.T) {
	root, ctx := connect(t, login(t, "root", "root")), bounded(t)
	must(root.RoleAdd(ctx, "writer"))
	_, err := root.RoleAdd(ctx, "writer")
	equal(t, "role added twice", err, rpctypes.ErrRoleAlreadyExist)
	writers := clientv3.GetPrefixRangeEnd("writers/")
	must(root.RoleGrantPermission(ctx, "writer", "writers/", writers, clientv3.PermissionType(clientv3.PermReadWrite)))
	must(root.UserAdd(ctx, "bob", "hunter2"))
	must(root.UserGrantRole(ctx, "bob", "writer"))
	equal(t, "roles", strings.Join(must(root.UserGet(ctx, "bob")).Roles, " "), "writer")
	equal(t, "listed", slices.Contains(must(root.UserList(ctx)).Users, "bob"), true)
	equal(t, "enabled", must(root.AuthStatus(ctx)).Enabled, true)

	bob := connect(t, login(t, "bob", "hunter2"))
	put(ctx, t, bob, "writers/", "a")
	must(root.RoleRevokePermission(ctx, "writer", "writers/", writers))
	_, err = bob.Put(ctx, "writers/a", "b")
	equal(t, "write after the permission is gone", err, rpctypes.ErrPermissionDenied)

	must(root.UserDelete(ctx, "bob"))
	must(root.RoleDelete(ctx, "writer"))
	_, err = root.UserGet(ctx, "bob")
	equal(t, "user after removal", err, rpctypes.ErrUserNotFound)
}
