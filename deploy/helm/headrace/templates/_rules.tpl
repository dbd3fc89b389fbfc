{{/* files/rules.yaml with the values of this release, as the list of groups of a PrometheusRule. */}}

{{/* The series of this release: a ServiceMonitor's job is the Service, a PodMonitor's has the namespace before it. */}}
{{- define "headrace.ruleSelector" -}}
{{- $name := include "headrace.fullname" . -}}
{{- default (printf "namespace=%q, job=~%q" .Release.Namespace (printf "(%s/)?%s" .Release.Namespace $name)) .Values.metrics.rules.selector -}}
{{- end -}}

{{- define "headrace.ruleGroups" -}}
{{- $rules := .Values.metrics.rules -}}
{{- $selector := include "headrace.ruleSelector" . -}}
{{- $text := .Files.Get "files/rules.yaml" -}}
{{- range $name, $value := merge (dict "runbooks" $rules.runbooks) $rules.objectives $rules.thresholds -}}
{{- $text = replace (printf "[[%s]]" $name) (toString $value) $text -}}
{{- end -}}
{{- $groups := list -}}
{{- range (fromYaml $text).groups -}}
{{- $kept := list -}}
{{- range .rules -}}
{{- $expr := .expr | replace "[[selector]]" $selector | replace "[[target]]" $selector -}}
{{- if not .alert -}}
{{- $kept = append $kept (set . "expr" $expr) -}}
{{- else if not (has .alert $rules.leaveOut) -}}
{{- $labels := merge (dict "severity" (get $rules.severities .labels.severity)) $rules.alertLabels -}}
{{- $kept = append $kept (set (set . "expr" $expr) "labels" $labels) -}}
{{- end -}}
{{- end -}}
{{- if $kept -}}
{{- $groups = append $groups (dict "name" (printf "%s.%s" (include "headrace.fullname" $) .name) "rules" $kept) -}}
{{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}
