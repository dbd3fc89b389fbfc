{{/* What the schema cannot say: values that have to fit each other. A misfit fails to render. */}}

{{- define "headrace.checks" -}}
{{- include "headrace.checkDatabase" . -}}
{{- include "headrace.checkGraphs" . -}}
{{- include "headrace.checkIngress" . -}}
{{- include "headrace.checkAuth" . -}}
{{- include "headrace.checkExtraEnv" . -}}
{{- include "headrace.checkScrapes" . -}}
{{- include "headrace.checkShutdown" . -}}
{{- include "headrace.checkBudget" . -}}
{{- end -}}

{{- define "headrace.checkDatabase" -}}
{{- $d := .Values.database -}}
{{- if and (not $d.existingSecret) (not $d.url) -}}
{{- fail (printf "database: no Secret is named. Set database.existingSecret to a Secret that has the key %s, or set database.url." $d.urlKey) -}}
{{- end -}}
{{- if and $d.existingSecret (or $d.url $d.migrationUrl) -}}
{{- fail "database: existingSecret is set, and url or migrationUrl too. Keep the Secret or the URLs." -}}
{{- end -}}
{{- if and $d.url $d.migrationUrlKey -}}
{{- fail "database: migrationUrlKey is a key of existingSecret. Beside database.url, set database.migrationUrl." -}}
{{- end -}}
{{- if and $d.url $d.passwordKey -}}
{{- fail "database: passwordKey is a key of existingSecret. Beside database.url, put the password into the URL." -}}
{{- end -}}
{{- if and $d.migrationSecret (not $d.migrationUrlKey) -}}
{{- fail "database: migrationSecret is set. Set migrationUrlKey to the key of the owner's URL in it." -}}
{{- end -}}
{{- if and $d.serverRole (not $d.migrationUrlKey) (not $d.migrationUrl) -}}
{{- fail "database: serverRole is the role of the pods, and needs a migration as the owner. Set migrationUrlKey, or migrationUrl beside url." -}}
{{- end -}}
{{- if gt (int $d.poolMin) (int $d.poolMax) -}}
{{- fail (printf "database: poolMin %d is above poolMax %d." (int $d.poolMin) (int $d.poolMax)) -}}
{{- end -}}
{{- end -}}

{{- define "headrace.checkGraphs" -}}
{{- if and .Values.graphs.existingConfigMap .Values.graphs.volume -}}
{{- fail "graphs: existingConfigMap and volume are both set, and both would be /app. Keep one." -}}
{{- end -}}
{{- end -}}

{{- define "headrace.checkIngress" -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress: it is enabled and has no host. Set ingress.hosts, for example [agents.example.org]." -}}
{{- end -}}
{{- end -}}

{{- define "headrace.checkAuth" -}}
{{- if eq .Values.auth.mode "none" -}}
{{- if ne .Values.service.type "ClusterIP" -}}
{{- fail (printf "auth: mode none lets everybody in, and service.type %s opens the Service to callers outside of the cluster. Set auth.mode keys, or service.type ClusterIP." .Values.service.type) -}}
{{- end -}}
{{- if .Values.ingress.enabled -}}
{{- fail "auth: mode none lets everybody in, and ingress.enabled opens the Service to callers outside of the cluster. Set auth.mode keys, or disable the ingress." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "headrace.checkExtraEnv" -}}
{{- $own := list "HEADRACE_API_KEYS" "HEADRACE_AUTH" "HEADRACE_AUTH__MODE" "HEADRACE_METRICS__PORT" -}}
{{- range concat (fromYamlArray (include "headrace.serverEnv" .)) (fromYamlArray (include "headrace.migrationEnv" .)) -}}
{{- $own = append $own .name -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if has .name $own -}}
{{- fail (printf "extraEnv: the chart sets %s itself, from a value of its own. README.md lists the values." .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "headrace.checkScrapes" -}}
{{- $ways := list -}}
{{- if .Values.metrics.serviceMonitor.enabled -}}
{{- $ways = append $ways "metrics.serviceMonitor.enabled" -}}
{{- end -}}
{{- if .Values.metrics.podMonitor.enabled -}}
{{- $ways = append $ways "metrics.podMonitor.enabled" -}}
{{- end -}}
{{- if eq (get .Values.podAnnotations "prometheus.io/scrape" | toString) "true" -}}
{{- $ways = append $ways "podAnnotations (prometheus.io/scrape)" -}}
{{- else if and .Values.metrics.podAnnotations (not (include "headrace.hasMonitor" .)) (not (hasKey .Values.podAnnotations "prometheus.io/scrape")) -}}
{{- $ways = append $ways "metrics.podAnnotations" -}}
{{- end -}}
{{- if eq (get .Values.service.annotations "prometheus.io/scrape" | toString) "true" -}}
{{- $ways = append $ways "service.annotations (prometheus.io/scrape)" -}}
{{- end -}}
{{- if gt (len $ways) 1 -}}
{{- fail (printf "metrics: %s would each have the pods scraped, and all figures would count twice. Keep one." (join " and " $ways)) -}}
{{- end -}}
{{- end -}}

{{/* The server's own bound, gunicorn's graceful_timeout. */}}
{{- define "headrace.serverStopSeconds" -}}
{{- with .Values.shutdown -}}
{{- add .drainDelaySeconds .graceSeconds (mul 2 .marginSeconds) 1 -}}
{{- end -}}
{{- end -}}

{{- define "headrace.terminationGracePeriodSeconds" -}}
{{- $sum := add .Values.shutdown.preStopSeconds (include "headrace.serverStopSeconds" .) -}}
{{- default (add $sum 5) .Values.shutdown.terminationGracePeriodSeconds | int -}}
{{- end -}}

{{- define "headrace.checkShutdown" -}}
{{- $s := .Values.shutdown -}}
{{- $sum := add $s.preStopSeconds (include "headrace.serverStopSeconds" .) | int -}}
{{- $period := include "headrace.terminationGracePeriodSeconds" . | int -}}
{{- if le $period $sum -}}
{{- fail (printf "shutdown: terminationGracePeriodSeconds is %d and has to be above %d = preStopSeconds %d + drainDelaySeconds %d + graceSeconds %d + 2 x marginSeconds %d + 1. Raise it, or leave it out." $period $sum (int $s.preStopSeconds) (int $s.drainDelaySeconds) (int $s.graceSeconds) (int $s.marginSeconds)) -}}
{{- end -}}
{{- $r := .Values.probes.readiness -}}
{{- $noticed := mul $r.periodSeconds $r.failureThreshold | int -}}
{{- if and $s.drainDelaySeconds (le (int $s.drainDelaySeconds) $noticed) -}}
{{- fail (printf "shutdown: drainDelaySeconds is %d, and the readiness probe notices only after %d = periodSeconds %d x failureThreshold %d. Raise the delay above that, or set it to 0." (int $s.drainDelaySeconds) $noticed (int $r.periodSeconds) (int $r.failureThreshold)) -}}
{{- end -}}
{{- end -}}

{{/*
Pods at the height of a rolling upgrade. A pod that drains holds its connections to its end, and the
Deployment does not wait for that end: every old pod may still drain while every new one serves.
Only minReadySeconds above the pod's period makes it wait; then it is one surge that starts and one
that drains.
*/}}
{{- define "headrace.podsAtOnce" -}}
{{- $replicas := int .Values.replicas -}}
{{- $pods := mul 2 $replicas -}}
{{- if ge (int .Values.rollingUpdate.minReadySeconds) (include "headrace.terminationGracePeriodSeconds" . | int) -}}
{{- $pods = min $pods (add $replicas (mul 2 .Values.rollingUpdate.maxSurge)) -}}
{{- end -}}
{{- $pods -}}
{{- end -}}

{{- define "headrace.connections" -}}
{{- add (mul (include "headrace.podsAtOnce" .) .Values.processes (add .Values.database.poolMax 2)) 2 .Values.database.reservedConnections -}}
{{- end -}}

{{- define "headrace.checkBudget" -}}
{{- $d := .Values.database -}}
{{- $sum := include "headrace.connections" . | int -}}
{{- if gt $sum (int $d.maxConnections) -}}
{{- fail (printf "connections: %s pods (%d replicas, and those that a rolling upgrade adds) x %d processes x (poolMax %d + 2) + 2 for the migration + %d reserved = %d, above database.maxConnections %d. Lower replicas, processes or database.poolMax, or raise max_connections of Postgres and this value with it." (include "headrace.podsAtOnce" .) (int .Values.replicas) (int .Values.processes) (int $d.poolMax) (int $d.reservedConnections) $sum (int $d.maxConnections)) -}}
{{- end -}}
{{- end -}}
