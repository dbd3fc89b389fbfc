{{/* Names, labels and the parts that server and migration share. */}}

{{- define "headrace.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "headrace.fullname" -}}
{{- $name := include "headrace.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "headrace.selectorLabels" -}}
app.kubernetes.io/name: {{ include "headrace.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "headrace.labels" -}}
{{ include "headrace.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of pods: without the chart's version, which would replace them for nothing. */}}
{{- define "headrace.podLabels" -}}
{{ include "headrace.selectorLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "headrace.hasMonitor" -}}
{{- if or .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}true{{- end -}}
{{- end -}}

{{/* One Prometheus asks once: where a monitor of its operator names the pods, no annotation does. */}}
{{- define "headrace.podAnnotations" -}}
{{- $annotations := dict -}}
{{- with .Values.database.url -}}
{{- $_ := set $annotations "checksum/database" (include "headrace.databaseSecretData" $ | sha256sum) -}}
{{- end -}}
{{- if and .Values.metrics.podAnnotations (not (include "headrace.hasMonitor" .)) -}}
{{- $_ := set $annotations "prometheus.io/scrape" "true" -}}
{{- $_ := set $annotations "prometheus.io/port" (.Values.metrics.port | default 8123 | int | toString) -}}
{{- $_ := set $annotations "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- with merge (deepCopy .Values.podAnnotations) $annotations -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- define "headrace.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "headrace.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "headrace.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* A hook runs before the release's own ServiceAccount exists, so it never names that one. */}}
{{- define "headrace.migrationServiceAccountName" -}}
{{- if .Values.migration.serviceAccountName -}}
{{- .Values.migration.serviceAccountName -}}
{{- else if .Values.serviceAccount.create -}}
default
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "headrace.databaseSecret" -}}
{{- default (printf "%s-database" (include "headrace.fullname" .)) .Values.database.existingSecret -}}
{{- end -}}

{{/* A hook runs before the release's own Secret exists, so it brings a copy of its own. */}}
{{- define "headrace.migrationSecret" -}}
{{- if or .Values.database.existingSecret (not .Values.migration.hook) -}}
{{- include "headrace.databaseSecret" . -}}
{{- else -}}
{{- printf "%s-migration" (include "headrace.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "headrace.urlKey" -}}
{{- if .Values.database.existingSecret -}}{{ .Values.database.urlKey }}{{- else -}}database-url{{- end -}}
{{- end -}}

{{- define "headrace.migrationUrlKey" -}}
{{- if .Values.database.existingSecret -}}
{{- .Values.database.migrationUrlKey -}}
{{- else if .Values.database.migrationUrl -}}
migration-database-url
{{- end -}}
{{- end -}}

{{- define "headrace.databaseSecretData" -}}
database-url: {{ .Values.database.url | b64enc }}
{{- with .Values.database.migrationUrl }}
migration-database-url: {{ . | b64enc }}
{{- end }}
{{- end -}}

{{- define "headrace.apiKeysSecret" -}}
{{- default (printf "%s-api-keys" (include "headrace.fullname" .)) .Values.auth.existingSecret -}}
{{- end -}}

{{- define "headrace.apiKeysKey" -}}
{{- if .Values.auth.existingSecret -}}{{ .Values.auth.key }}{{- else -}}api-keys{{- end -}}
{{- end -}}

{{/* The password as a file: kubelet writes it anew when the Secret changes. A subPath would not. */}}
{{- define "headrace.passwordEnv" -}}
{{- if .Values.database.passwordKey }}
- name: HEADRACE_DATABASE__PASSWORD_FILE
  value: /run/secrets/headrace/password
{{- end }}
{{- end -}}

{{- define "headrace.passwordMount" -}}
{{- if .Values.database.passwordKey -}}
- name: password
  mountPath: /run/secrets/headrace
  readOnly: true
{{- end -}}
{{- end -}}

{{- define "headrace.passwordVolume" -}}
{{- with .Values.database.passwordKey -}}
- name: password
  secret:
    secretName: {{ include "headrace.databaseSecret" $ }}
    items:
      - key: {{ . }}
        path: password
{{- end -}}
{{- end -}}

{{/* What the chart itself tells the server; extraEnv may not say it again. */}}
{{- define "headrace.serverEnv" -}}
- name: HEADRACE_HOST
  value: "0.0.0.0"
- name: HEADRACE_PORT
  value: "8123"
{{- with .Values.metrics.port }}
- name: HEADRACE_METRICS__PORT
  value: {{ . | int | quote }}
{{- end }}
- name: HEADRACE_PROCESSES
  value: {{ .Values.processes | int | quote }}
- name: HEADRACE_RUNTIME_DIR
  value: /run/headrace
- name: HEADRACE_DATABASE__URL
  valueFrom:
    secretKeyRef:
      name: {{ include "headrace.databaseSecret" . }}
      key: {{ include "headrace.urlKey" . }}
{{- include "headrace.passwordEnv" . }}
- name: HEADRACE_DATABASE__POOL_MIN
  value: {{ .Values.database.poolMin | int | quote }}
{{- with .Values.database.schema }}
- name: HEADRACE_DATABASE__SCHEMA
  value: {{ . | quote }}
{{- end }}
- name: HEADRACE_DATABASE__POOL_MAX
  value: {{ .Values.database.poolMax | int | quote }}
{{- with .Values.trustedProxies }}
- name: HEADRACE_EDGE__TRUSTED_PROXIES
  value: {{ join "," . | quote }}
{{- end }}
- name: HEADRACE_SERVER__DRAIN_DELAY_SECONDS
  value: {{ .Values.shutdown.drainDelaySeconds | int | quote }}
- name: HEADRACE_SERVER__GRACE_SECONDS
  value: {{ .Values.shutdown.graceSeconds | int | quote }}
- name: HEADRACE_SERVER__SHUTDOWN_MARGIN_SECONDS
  value: {{ .Values.shutdown.marginSeconds | int | quote }}
{{- range $name, $variable := dict "threadMinutes" "THREAD_MINUTES" "threadStrategy" "THREAD_STRATEGY" "runMinutes" "RUN_MINUTES" "storeMinutes" "STORE_MINUTES" "storeRefreshOnRead" "STORE_REFRESH_ON_READ" "sweepMinutes" "SWEEP_MINUTES" "sweepLimit" "SWEEP_LIMIT" }}
{{- $value := get $.Values.retention $name }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: HEADRACE_RETENTION__{{ $variable }}
  value: {{ $value | toJson | trimAll "\"" | quote }}
{{- end }}
{{- end }}
{{- if eq .Values.auth.mode "none" }}
- name: HEADRACE_AUTH
  value: none
{{- else }}
- name: HEADRACE_API_KEYS
  valueFrom:
    secretKeyRef:
      name: {{ include "headrace.apiKeysSecret" . }}
      key: {{ include "headrace.apiKeysKey" . }}
{{- end }}
{{- end -}}

{{- define "headrace.migrationEnv" -}}
- name: HEADRACE_DATABASE__URL
  valueFrom:
    secretKeyRef:
      name: {{ include "headrace.migrationSecret" . }}
      key: {{ include "headrace.urlKey" . }}
{{- include "headrace.passwordEnv" . }}
{{- with include "headrace.migrationUrlKey" . }}
- name: HEADRACE_DATABASE__MIGRATION_URL
  valueFrom:
    secretKeyRef:
      name: {{ default (include "headrace.migrationSecret" $) $.Values.database.migrationSecret }}
      key: {{ . }}
{{- end }}
{{- with .Values.database.schema }}
- name: HEADRACE_DATABASE__SCHEMA
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Pod level. enableServiceLinks: a Service `headrace` would set HEADRACE_PORT=tcp://... */}}
{{- define "headrace.podBasics" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with .Values.runAsUser }}
  runAsUser: {{ . | int }}
  runAsGroup: {{ . | int }}
  fsGroup: {{ . | int }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "headrace.containerBasics" -}}
image: {{ include "headrace.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "headrace.tmpVolume" -}}
- name: tmp
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
{{- end -}}
