# status.sh NAME: running, success or failed.
state=$(kubectl get job "$1" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}') || { echo running; exit; }
case "$state" in
    *Complete*) echo success ;;
    *Failed*) echo failed ;;
    *) echo running ;;
esac
