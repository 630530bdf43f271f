{{- /* Rights inside the namespaces that are served. Each verb is there for what its comment says, no other. */ -}}
{{- define "kvnode-operator.namespacedRules" -}}
# Our kinds: watched; a cluster's annotation is set for a restart; backups are made and expired by schedules and carry a
# finalizer; finished operations expire.
- apiGroups: [kvnode.io]
  resources: [etcdclusters]
  verbs: [get, list, watch, patch]
- apiGroups: [kvnode.io]
  resources: [etcdbackups]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [kvnode.io]
  resources: [etcdbackupschedules]
  verbs: [get, list, watch]
- apiGroups: [kvnode.io]
  resources: [etcdoperations]
  verbs: [get, list, watch, delete]
- apiGroups: [kvnode.io]
  resources: [etcdclusters/status, etcdbackups/status, etcdbackupschedules/status, etcdoperations/status]
  verbs: [patch]
# To own objects that block their owner's deletion, where the API server checks that.
- apiGroups: [kvnode.io]
  resources: [etcdclusters/finalizers, etcdbackups/finalizers, etcdbackupschedules/finalizers]
  verbs: [update]
# Members: applied; never deleted.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
# Services and disruption budgets: applied, and deleted when not wanted any more.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# The identity record: created once, replaced by compare and swap.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, update]
# Certificates that the operator issues are applied; Secrets that users name are read.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
# Pods get tickets by annotation and are deleted one at a time to be made anew.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch, delete]
# Volume claims: the first one is made for a restore, all are grown and tied to their cluster if they are to go with it
# (changing owners takes the right to delete, where the API server checks that), a lost member's is set aside.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# Backup and restore Jobs; a failed restore is deleted to be tried again.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# Events about our kinds; patched when they repeat.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{- /* Rights on things that have no namespace. */ -}}
{{- define "kvnode-operator.clusterRules" -}}
# A missing storage class is told instead of waited for.
- apiGroups: [storage.k8s.io]
  resources: [storageclasses]
  verbs: [get, list, watch]
# A volume that is set aside is told to stay when its claim goes.
- apiGroups: [""]
  resources: [persistentvolumes]
  verbs: [get, patch]
# With a namespace, the Role in it goes at once, and backups only when their finalizer was taken off. So the right to
# do that is not in the Role.
- apiGroups: [kvnode.io]
  resources: [etcdbackups]
  verbs: [get, list, watch, patch]
# To tell a namespace that is being deleted from one where a right lacks for another reason.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- end -}}
