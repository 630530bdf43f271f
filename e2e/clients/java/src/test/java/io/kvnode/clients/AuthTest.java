package io.kvnode.clients;

import static io.kvnode.clients.Servers.answer;
import static io.kvnode.clients.Servers.bytes;
import static io.kvnode.clients.Servers.refusal;
import static io.kvnode.clients.Servers.secured;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.etcd.jetcd.Auth;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.auth.Permission;
import io.etcd.jetcd.common.exception.ErrorCode;
import java.util.List;
import org.junit.jupiter.api.Test;

class AuthTest {
  private static Client logIn(String user, String password) throws Exception {
    return secured("CLIENTS_AUTH", false).user(bytes(user)).password(bytes(password)).build();
  }

  @Test
  void userDoesWhatItsRolePermits() throws Exception {
    try (Client root = logIn("root", "root");
        Client alice = logIn("alice", "secret")) {
      answer(root.getKVClient().put(bytes("public/java"), bytes("1")));
      assertEquals(1, answer(alice.getKVClient().get(bytes("public/java"))).getCount());
      assertEquals(
          ErrorCode.PERMISSION_DENIED,
          refusal(alice.getKVClient().put(bytes("public/java"), bytes("2"))).getErrorCode());
      assertEquals(
          ErrorCode.PERMISSION_DENIED, refusal(alice.getKVClient().get(bytes("private"))).getErrorCode());

      Seen seen = new Seen();
      alice.getWatchClient().watch(bytes("public/java"), seen);
      answer(root.getKVClient().put(bytes("public/java"), bytes("3")));
      assertEquals(List.of("PUT 3"), seen.next(1));
    }
  }

  @Test
  void wrongPasswordIsRefused() throws Exception {
    try (Client client = logIn("alice", "wrong")) {
      assertEquals(
          ErrorCode.UNAUTHENTICATED, refusal(client.getKVClient().get(bytes("public/java"))).getErrorCode());
    }
  }

  @Test
  void usersAndRolesAreManaged() throws Exception {
    try (Client root = logIn("root", "root")) {
      Auth auth = root.getAuthClient();
      answer(auth.roleAdd(bytes("writer")));
      answer(
          auth.roleGrantPermission(
              bytes("writer"), bytes("writers/"), bytes("writers0"), Permission.Type.READWRITE));
      answer(auth.userAdd(bytes("bob"), bytes("hunter2")));
      answer(auth.userGrantRole(bytes("bob"), bytes("writer")));
      assertEquals(List.of("writer"), answer(auth.userGet(bytes("bob"))).getRoles());
      assertEquals(
          Permission.Type.READWRITE,
          answer(auth.roleGet(bytes("writer"))).getPermissions().get(0).getPermType());

      answer(auth.userChangePassword(bytes("bob"), bytes("hunter3")));
      try (Client bob = logIn("bob", "hunter3")) {
        answer(bob.getKVClient().put(bytes("writers/a"), bytes("1")));
      }
      answer(auth.userDelete(bytes("bob")));
      answer(auth.roleDelete(bytes("writer")));
      assertEquals(ErrorCode.FAILED_PRECONDITION, refusal(auth.userGet(bytes("bob"))).getErrorCode());
    }
  }
}
