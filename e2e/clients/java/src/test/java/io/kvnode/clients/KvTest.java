package io.kvnode.clients;

import static io.kvnode.clients.Servers.answer;
import static io.kvnode.clients.Servers.bytes;
import static io.kvnode.clients.Servers.refusal;
import static io.kvnode.clients.Servers.text;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.common.exception.ErrorCode;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.CompactOption;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;

class KvTest {
  private Client client;
  private KV kv;
  private String prefix;

  @BeforeEach
  void connect(TestInfo test) {
    client = Servers.plain();
    kv = client.getKVClient();
    prefix = test.getDisplayName() + "/";
  }

  @AfterEach
  void close() {
    client.close();
  }

  private ByteSequence key(String name) {
    return bytes(prefix + name);
  }

  private long put(String name, String value) {
    return answer(kv.put(key(name), bytes(value))).getHeader().getRevision();
  }

  private static List<String> values(GetResponse answer) {
    return answer.getKvs().stream().map(found -> text(found.getValue())).toList();
  }

  private GetOption.Builder below() {
    return GetOption.builder().withPrefix(bytes(prefix));
  }

  @Test
  void putCountsVersionsAndRevisions() {
    long first = put("a", "1");
    PutOption previous = PutOption.builder().withPrevKV().build();
    assertEquals("1", text(answer(kv.put(key("a"), bytes("2"), previous)).getPrevKv().getValue()));

    KeyValue found = answer(kv.get(key("a"))).getKvs().get(0);
    assertEquals(first, found.getCreateRevision());
    assertEquals(2, found.getVersion());
    assertTrue(found.getModRevision() > first);
  }

  @Test
  void getByPrefixLimitsSortsAndCounts() {
    for (String name : List.of("b", "a", "d", "c")) {
      put(name, name);
    }

    GetResponse page = answer(kv.get(bytes(prefix), below().withLimit(2).build()));
    assertEquals(List.of("a", "b"), values(page));
    assertTrue(page.isMore());
    assertEquals(4, page.getCount());

    GetOption descending =
        below().withSortField(GetOption.SortTarget.KEY).withSortOrder(GetOption.SortOrder.DESCEND).build();
    assertEquals(List.of("d", "c", "b", "a"), values(answer(kv.get(bytes(prefix), descending))));
    GetOption oldestFirst =
        below().withSortField(GetOption.SortTarget.CREATE).withSortOrder(GetOption.SortOrder.ASCEND).build();
    assertEquals(List.of("b", "a", "d", "c"), values(answer(kv.get(bytes(prefix), oldestFirst))));

    assertEquals(4, answer(kv.get(bytes(prefix), below().withCountOnly(true).build())).getCount());
    assertEquals(List.of("", "", "", ""), values(answer(kv.get(bytes(prefix), below().withKeysOnly(true).build()))));
    GetOption range = GetOption.builder().withRange(key("d")).build();
    assertEquals(List.of("b", "c"), values(answer(kv.get(key("b"), range))));
  }

  @Test
  void getFromThePastAndFromThisMemberAlone() {
    long past = put("a", "old");
    put("a", "new");

    assertEquals(List.of("old"), values(answer(kv.get(key("a"), GetOption.builder().withRevision(past).build()))));
    assertEquals(List.of("new"), values(answer(kv.get(key("a"), GetOption.builder().withSerializable(true).build()))));
    GetOption future = GetOption.builder().withRevision(past + 1000).build();
    assertEquals(ErrorCode.OUT_OF_RANGE, refusal(kv.get(key("a"), future)).getErrorCode());
  }

  @Test
  void deleteReturnsWhatItRemoved() {
    for (String name : List.of("a", "b", "c")) {
      put(name, name);
    }

    DeleteOption previous = DeleteOption.builder().withPrevKV(true).build();
    assertEquals("a", text(answer(kv.delete(key("a"), previous)).getPrevKvs().get(0).getValue()));
    DeleteOption below = DeleteOption.builder().withPrefix(bytes(prefix)).build();
    assertEquals(2, answer(kv.delete(bytes(prefix), below)).getDeleted());
    assertEquals(0, answer(kv.delete(bytes(prefix), below)).getDeleted());
  }

  private TxnResponse create() {
    return answer(
        kv.txn()
            .If(
                new Cmp(key("a"), Cmp.Op.EQUAL, CmpTarget.createRevision(0)),
                new Cmp(key("b"), Cmp.Op.LESS, CmpTarget.version(1)))
            .Then(
                Op.put(key("a"), bytes("made"), PutOption.DEFAULT),
                Op.txn(
                    new Cmp[] {new Cmp(key("b"), Cmp.Op.EQUAL, CmpTarget.version(0))},
                    new Op[] {Op.put(key("b"), bytes("nested"), PutOption.DEFAULT)},
                    new Op[0]))
            .Else(Op.get(key("a"), GetOption.DEFAULT), Op.delete(key("b"), DeleteOption.DEFAULT))
            .commit());
  }

  @Test
  void transactionChoosesABranch() {
    TxnResponse made = create();
    assertTrue(made.isSucceeded());
    assertTrue(made.getTxnResponses().get(0).isSucceeded());

    TxnResponse refused = create();
    assertFalse(refused.isSucceeded());
    assertEquals(List.of("made"), values(refused.getGetResponses().get(0)));
    assertEquals(1, refused.getDeleteResponses().get(0).getDeleted());
  }

  @Test
  void refusalsAreTheClientsOwnErrors() {
    assertEquals(ErrorCode.INVALID_ARGUMENT, refusal(kv.put(ByteSequence.EMPTY, bytes("value"))).getErrorCode());
    PutOption unknownLease = PutOption.builder().withLeaseId(12345).build();
    assertEquals(ErrorCode.NOT_FOUND, refusal(kv.put(key("a"), bytes("1"), unknownLease)).getErrorCode());
  }

  @Test
  void compactionForgetsThePast() {
    long past = put("a", "old");
    long now = put("a", "new");
    answer(kv.compact(now, CompactOption.builder().withCompactPhysical(true).build()));

    GetOption atThePast = GetOption.builder().withRevision(past).build();
    assertEquals(ErrorCode.OUT_OF_RANGE, refusal(kv.get(key("a"), atThePast)).getErrorCode());
    assertEquals(ErrorCode.OUT_OF_RANGE, refusal(kv.compact(past)).getErrorCode());
    assertEquals(List.of("new"), values(answer(kv.get(key("a"), GetOption.builder().withRevision(now).build()))));
  }
}
